package gpu_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/enclave/evidence"
)

// A machine is fake GPUs and switches and what their driver says.
type machine struct {
	mu      sync.Mutex
	state   appraise.DriverState
	devices []*gputest.Device
	fail    error
	late    error // of the second and later collections
	old     bool  // reports are recorded ones, which answer another nonce
	ready   []bool
	asked   int
	usage   gpu.Usage
}

func (m *machine) Collect(_ context.Context, nonce [32]byte) (*gpu.Collected, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked++; m.asked > 1 && m.late != nil {
		return nil, m.late
	}
	if m.old {
		nonce[0]++
	}
	c := &gpu.Collected{State: m.state}
	for _, d := range m.devices {
		e, err := d.Evidence(nonce)
		if err != nil {
			return nil, err
		}
		c.Devices = append(c.Devices, e)
	}
	return c, m.fail
}

func (m *machine) SetReady(_ context.Context, ready bool) error {
	m.ready = append(m.ready, ready)
	return nil
}

func (m *machine) Usage(context.Context) (*gpu.Usage, error) { return &m.usage, nil }

var (
	now    = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	claims = evidence.Claims{Authority: "example", Static: [32]byte{1}, Epoch: 1, NotBefore: 1, NotAfter: 2}
)

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newGate(t testing.TB) (*gpu.Gate, *machine) {
	t.Helper()
	v, err := gputest.New(now)
	fatal(t, err)
	m := &machine{state: appraise.DriverState{ConfidentialCompute: true, GPUs: 1, Switches: 1}}
	g, err := v.Device(appraise.Hopper, "550.90.07", "96.00.5E.00.01")
	fatal(t, err)
	s, err := v.Device(appraise.LS10, "", "96.10.55.00.01")
	fatal(t, err)
	m.devices = []*gputest.Device{g, s}
	gputest.Connect(m.devices...)
	in := appraise.Input{Roots: v.Roots(), Policy: appraise.Policy{
		Floors: map[appraise.Arch]appraise.Floor{appraise.Hopper: {Driver: "550", VBIOS: "96"}, appraise.LS10: {VBIOS: "96"}},
		Modes:  []appraise.Mode{appraise.ModeUnstated}, NoOCSP: true, MinGPUs: 1, UnpinnedRIM: true,
	}}
	for i, version := range []string{"550.90.07", "96.00.5E.00.01"} {
		text, err := v.RIM(appraise.Hopper, version, i, i+10)
		fatal(t, err)
		r, err := appraise.ParseRIM(text)
		fatal(t, err)
		in.RIMs = append(in.RIMs, r)
	}
	text, err := v.RIM(appraise.LS10, "96.10.55.00.01", 3)
	fatal(t, err)
	r, err := appraise.ParseRIM(text)
	fatal(t, err)
	in.RIMs = append(in.RIMs, r)
	return &gpu.Gate{Source: m, Verify: in, GPUs: 1, Switches: 1, Now: func() time.Time { return now }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, m
}

// TestAttest: the set is bound to the key both ways, and a client comes to the same verdict.
func TestAttest(t *testing.T) {
	g, m := newGate(t)
	set, err := g.Attest(t.Context(), claims)
	fatal(t, err)
	if !slices.Equal(m.ready, []bool{true}) {
		t.Errorf("ready %v, want once on", m.ready)
	}
	c := claims
	c.GPU = set.Digest[:]
	in := g.Verify
	in.Now = now
	if res, err := appraise.VerifySet(c, set.Document, in); err != nil || !res.Accepted || len(res.Devices) != 2 {
		t.Errorf("client: %v: %+v", err, res)
	}
	for name, x := range map[string]struct {
		change func(c *evidence.Claims, document *[]byte)
		want   appraise.Reason
	}{
		"none bound":    {func(c *evidence.Claims, _ *[]byte) { c.GPU = nil }, appraise.NoDevices},
		"another bound": {func(c *evidence.Claims, _ *[]byte) { c.GPU = make([]byte, 32) }, appraise.BadBinding},
		"another set":   {func(_ *evidence.Claims, d *[]byte) { *d = append(*d, ' ') }, appraise.BadBinding},
		"another key":   {func(c *evidence.Claims, _ *[]byte) { c.Static = [32]byte{2} }, appraise.BadNonce},
		"another epoch": {func(c *evidence.Claims, _ *[]byte) { c.Epoch = 2 }, appraise.BadNonce},
	} {
		c, document := c, slices.Clone(set.Document)
		x.change(&c, &document)
		if res, err := appraise.VerifySet(c, document, in); err == nil || res.Accepted || res.Reason != x.want {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
}

func TestGateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(g *gpu.Gate, m *machine)
		want   string
		gate   bool
	}{
		"no GPU":          {func(_ *gpu.Gate, m *machine) { m.devices, m.state.GPUs = nil, 0 }, "sees no GPU", true},
		"switch alone":    {func(_ *gpu.Gate, m *machine) { m.devices = m.devices[1:] }, "sees 1 GPUs, 0 gave evidence", true},
		"one is silent":   {func(_ *gpu.Gate, m *machine) { m.state.GPUs = 2 }, "sees 2 GPUs, 1 gave", true},
		"silent switch":   {func(_ *gpu.Gate, m *machine) { m.devices = m.devices[:1] }, "sees 1 switches, 0 gave", true},
		"open switch":     {func(_ *gpu.Gate, m *machine) { m.state.SwitchesUnlocked = 1 }, "1 switches are not locked", true},
		"one too many":    {func(g *gpu.Gate, _ *machine) { g.GPUs = 2 }, "1 GPUs and 1 switches, want 2 and 1", true},
		"no switch meant": {func(g *gpu.Gate, _ *machine) { g.Switches = 0 }, "want 1 and 0", true},
		"CC off, silent":  {func(_ *gpu.Gate, m *machine) { m.state.ConfidentialCompute, m.devices = false, m.devices[1:] }, "confidential computing is off", true},
		"CC off":          {func(_ *gpu.Gate, m *machine) { m.state.ConfidentialCompute = false }, "confidential computing is off", true},
		"developer tools": {func(_ *gpu.Gate, m *machine) { m.state.DeveloperTools = true }, "developer tools are on", true},
		"measurement":     {func(_ *gpu.Gate, m *machine) { m.devices[0].Blocks[10] = appraise.Digest{} }, "measurements [10]", true},
		"recorded report": {func(_ *gpu.Gate, m *machine) { m.old = true }, "report answers nonce", true},
		"zero policy":     {func(g *gpu.Gate, _ *machine) { g.Verify.Policy = appraise.Policy{} }, "no family", true},
		"no driver":       {func(_ *gpu.Gate, m *machine) { m.fail = errors.New("no driver") }, "no driver", false},
	} {
		g, m := newGate(t)
		c.change(g, m)
		set, err := g.Attest(t.Context(), claims)
		if set != nil || err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, gpu.ErrGate) != c.gate {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if !slices.Equal(m.ready, []bool{false}) {
			t.Errorf("%s: ready %v, want once off", name, m.ready)
		}
	}
}

// TestMain lets the test binary be the helper: what it does stands in its name.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "collect" || os.Args[1] == "ready" || os.Args[1] == "usage") {
		os.Exit(helper(os.Args))
	}
	os.Exit(m.Run())
}

func helper(args []string) int {
	a := gpu.HelperAnswer{Schema: gpu.HelperSchema, State: appraise.DriverState{ConfidentialCompute: true, GPUs: 1}, Devices: json.RawMessage("[]")}
	switch base := args[0][strings.LastIndex(args[0], "/")+1:]; {
	case len(os.Environ()) != 0:
		fmt.Fprintln(os.Stderr, "environment not empty")
		return 1
	case base == "broken":
		fmt.Fprintln(os.Stderr, "NVML: driver\nnot loaded")
		return 1
	case base == "slow":
		time.Sleep(time.Minute)
	case base == "verbose":
		for range 100 {
			fmt.Println(strings.Repeat("x", 1<<20))
		}
	case base == "schema":
		a.Schema = "tally.gpu-helper/v2"
	case base == "unknown":
		fmt.Println(`{"schema": "tally.gpu-helper/v1", "verdict": true}`)
		return 0
	case args[1] == "collect" && base == "good":
		nonce, err := hex.DecodeString(args[2])
		if err != nil {
			return 1
		}
		v, err := gputest.New(now)
		if err != nil {
			return 1
		}
		d, err := v.Device(appraise.Hopper, "550.90.07", "96.00.5E.00.01")
		if err != nil {
			return 1
		}
		e, err := d.Evidence([32]byte(nonce))
		if err != nil {
			return 1
		}
		if a.Devices, err = appraise.MarshalEvidence([]appraise.Device{e}); err != nil {
			return 1
		}
	}
	if args[1] == "usage" {
		memory := uint64(5)
		u := gpu.UsageAnswer{Schema: a.Schema, Usage: gpu.Usage{Processes: []gpu.Process{{GPU: 1, PID: 7, Memory: &memory}, {PID: 8}}, Used: []uint64{3, 4}}}
		if json.NewEncoder(os.Stdout).Encode(u) != nil {
			return 1
		}
	}
	if args[1] == "collect" && json.NewEncoder(os.Stdout).Encode(a) != nil {
		return 1
	}
	return 0
}

func TestHelper(t *testing.T) {
	self, err := os.Executable()
	fatal(t, err)
	dir := t.TempDir()
	as := func(name string, timeout time.Duration) *gpu.Helper {
		path := dir + "/" + name
		fatal(t, os.Symlink(self, path))
		return &gpu.Helper{Path: path, Timeout: timeout}
	}
	good := as("good", time.Minute)
	c, err := good.Collect(t.Context(), [32]byte{9})
	fatal(t, err)
	r, err := appraise.ParseReport(c.Devices[0].Report)
	fatal(t, err)
	if r.RequestNonce != [32]byte{9} || !c.State.ConfidentialCompute || c.State.GPUs != 1 {
		t.Errorf("%+v", c.State)
	}
	fatal(t, good.SetReady(t.Context(), true))
	u, err := good.Usage(t.Context())
	fatal(t, err)
	if len(u.Processes) != 2 || u.Processes[0].PID != 7 || *u.Processes[0].Memory != 5 || u.Processes[1].Memory != nil || !slices.Equal(u.Used, []uint64{3, 4}) {
		t.Errorf("%+v", u)
	}
	if c, err := as("empty", time.Minute).Collect(t.Context(), [32]byte{}); err != nil || len(c.Devices) != 0 {
		t.Errorf("no devices: %v %v", c, err)
	}
	for name, want := range map[string]string{
		"broken": `"NVML: driver not loaded"`, "slow": "deadline", "verbose": "GPU helper: collect", "schema": "tally.gpu-helper/v2", "unknown": "verdict",
	} {
		timeout := time.Minute
		if name == "slow" {
			timeout = 50 * time.Millisecond
		}
		if _, err := as(name, timeout).Collect(t.Context(), [32]byte{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if err := (&gpu.Helper{Path: dir + "/broken", Timeout: time.Minute}).SetReady(t.Context(), true); err == nil {
		t.Error("ready of a broken helper: no error")
	}
	if err := (&gpu.Helper{Path: dir + "/none", Timeout: time.Minute}).SetReady(t.Context(), true); err == nil {
		t.Error("ready of no helper: no error")
	}
}
