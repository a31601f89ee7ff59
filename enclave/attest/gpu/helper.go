package gpu

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	appraise "tally/enclave/appraise/gpu"
)

// HelperSchema names the answer of the process that talks to NVML:
//
//	HELPER collect NONCE   prints {"schema": "tally.gpu-helper/v1", "state": {"confidential_compute": true,
//	                       "developer_tools": false, "gpus": 8, "switches": 4, "switches_unlocked": 0}, "devices": […]};
//	                       devices as in the vendor's evidence files
//	HELPER ready on|off    sets the ready state of all GPUs and prints nothing
//	HELPER usage           prints {"schema": "tally.gpu-helper/v1", "processes": [{"gpu": 0, "pid": 41, "memory": 123}],
//	                       "used": [456]}: who computes on which GPU with how many bytes (no memory: the driver does not say),
//	                       and the bytes allocated on each, what the driver keeps for itself aside; process IDs as the
//	                       helper's own PID namespace has them
//
// Answers have all these fields once, in this order; only a process's memory may be left out. It exits 0, or otherwise with one line on stderr that says why.
const HelperSchema = "tally.gpu-helper/v1"

// A Helper is a [Source] that is a process: a crash in the vendor's library ends one call and not the enclave.
type Helper struct {
	Path    string        // of the program
	Timeout time.Duration // of one call

	// Run runs a program with an empty environment and no input to its end, or until ctx ends or a writer returns an
	// error. nil: os/exec does, which a process cannot use that collects the children of others.
	Run func(ctx context.Context, path string, args []string, stdout, stderr io.Writer) error
}

// maxStderr is as much of the helper's complaint as is repeated.
const maxStderr = 300

// UsageAnswer is what `usage` prints.
type UsageAnswer struct {
	Schema string `json:"schema"`
	Usage
}

// HelperAnswer is what `collect` prints.
type HelperAnswer struct {
	Schema  string               `json:"schema"`
	State   appraise.DriverState `json:"state"`
	Devices json.RawMessage      `json:"devices"`
}

// Collect runs the helper's collect.
func (h *Helper) Collect(ctx context.Context, nonce [32]byte) (*Collected, error) {
	out, err := h.run(ctx, "collect", hex.EncodeToString(nonce[:]))
	if err != nil {
		return nil, err
	}
	var a HelperAnswer
	if err := decode(out, &a, &a.Schema); err != nil {
		return nil, err
	}
	c := &Collected{State: a.State}
	if string(bytes.TrimSpace(a.Devices)) != "[]" { // none is an answer, which the gate refuses
		if c.Devices, err = appraise.ParseEvidence(a.Devices, nil); err != nil {
			return nil, fmt.Errorf("GPU helper: %w", err)
		}
	}
	return c, nil
}

// SetReady runs the helper's ready.
func (h *Helper) SetReady(ctx context.Context, ready bool) error {
	word := "off"
	if ready {
		word = "on"
	}
	_, err := h.run(ctx, "ready", word)
	return err
}

// Usage runs the helper's usage.
func (h *Helper) Usage(ctx context.Context) (*Usage, error) {
	out, err := h.run(ctx, "usage")
	if err != nil {
		return nil, err
	}
	var a UsageAnswer
	if err := decode(out, &a, &a.Schema); err != nil {
		return nil, err
	}
	return &a.Usage, nil
}

// decode reads one answer, whose schema is then in *schema.
func decode(out []byte, to any, schema *string) error {
	if err := json.Unmarshal(out, to); err != nil {
		return fmt.Errorf("GPU helper: %w", err)
	}
	if *schema != HelperSchema {
		return fmt.Errorf("GPU helper: schema %.40q, want %s", *schema, HelperSchema)
	}
	// Written again it must be the same: a field that is missing, twice or unknown would say something without saying it.
	var said, again bytes.Buffer
	e := json.NewEncoder(&again)
	e.SetEscapeHTML(false)
	if err := cmp.Or(json.Compact(&said, out), e.Encode(to)); err != nil {
		return fmt.Errorf("GPU helper: %w", err)
	}
	if !bytes.Equal(bytes.TrimSpace(again.Bytes()), said.Bytes()) {
		return fmt.Errorf("GPU helper: answer %.200s: want each of its fields once, in order", said.Bytes())
	}
	return nil
}

// run runs the helper with an empty environment.
func (h *Helper) run(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	out, complaint := &capped{limit: appraise.MaxEvidence}, &capped{limit: 4096}
	run := h.Run
	if run == nil {
		run = execute
	}
	err := run(ctx, h.Path, args, out, complaint)
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("GPU helper: %s: %w", args[0], ctx.Err())
	case err != nil:
		text := strings.Join(strings.Fields(complaint.buf.String()), " ")
		return nil, fmt.Errorf("GPU helper: %s: %w: %.*q", args[0], err, maxStderr, text)
	}
	return out.buf.Bytes(), nil
}

func execute(ctx context.Context, path string, args []string, stdout, stderr io.Writer) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = []string{}, stdout, stderr, time.Second
	return cmd.Run()
}

// A capped writer refuses more than its limit, which ends the process that writes. It does not embed its buffer,
// whose ReadFrom would go round the limit.
type capped struct {
	buf   bytes.Buffer
	limit int
}

func (c *capped) Write(b []byte) (int, error) {
	if c.buf.Len()+len(b) > c.limit {
		return 0, fmt.Errorf("more than %d bytes of output", c.limit)
	}
	return c.buf.Write(b)
}
