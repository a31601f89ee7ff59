package qemu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// An End is how a boot ended.
type End string

// The ends of a boot. PoweredOff also stands for a restart that no panic explains.
const (
	PoweredOff End = "powered-off" // the guest ended by itself
	Refused    End = "refused"     // init or the enclave refused, with a reason
	HashTree   End = "hash-tree"   // dm-verity met a block that is not as measured
	Panicked   End = "panicked"    // any other kernel panic
	Stopped    End = "stopped"     // the caller's stop, after it had what it wanted
	TimedOut   End = "timed-out"   // neither served nor ended within the limit
)

// A Result describes a boot. Detail is the console line that decided, "" when there is none.
type Result struct {
	End     End
	Detail  string
	Served  bool          // the enclave said that it serves
	ServeIn time.Duration // from the start of QEMU until then
	Ran     time.Duration
}

// Options say how to follow a boot. The zero Options waits without limit and shows nothing.
type Options struct {
	// Boot limits the time until the enclave serves or the guest ends; 0 is no limit. It does not
	// limit how long a guest serves.
	Boot time.Duration
	// Line is called with every console line, made safe for a terminal.
	Line func(string)
	// Ready is called once, in its own goroutine, when the enclave serves or, with Until, when a line
	// matches; its return stops the machine. nil: the machine runs on until it ends or ctx does.
	Ready func(ctx context.Context)
	// Until says which line makes the machine ready; nil: the enclave's own.
	Until func(line string) bool
}

// grace is how long QEMU may take to end after it was told to.
const grace = 3 * time.Second

// Run boots m and follows its console until it ends, until Ready returns, or until ctx ends, in which
// case the machine is killed and the error is ctx's. An error of QEMU itself (a port in use, no memory)
// is returned with QEMU's own words.
func Run(ctx context.Context, m Machine, opt Options) (Result, error) {
	args, err := m.Args()
	if err != nil {
		return Result{}, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	var stderr tail
	cmd := exec.CommandContext(run, m.QEMU, args...)
	cmd.WaitDelay = grace
	ownGroup(cmd)
	cmd.Stderr = &stderr
	console, err := cmd.StdoutPipe()
	if err != nil {
		return Result{}, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Result{}, err
	}
	f := &follower{opt: opt, stop: stop, ctx: run, start: start, ready: make(chan struct{})}
	watch := f.limit(run)
	f.follow(console)
	err = cmd.Wait()
	stop()
	<-watch
	f.wait.Wait()
	r := f.result()
	r.Ran = time.Since(start)
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case r.End == Stopped || r.End == TimedOut:
		return r, nil
	case err != nil:
		return r, fmt.Errorf("qemu: %w: %s", err, stderr.text())
	}
	return r, nil
}

// Limits on what a guest may print: a longer line is cut into several.
const maxLine = 4096

// readLines calls line for each console line until r ends. Carriage returns end lines too: firmware
// draws with them.
func readLines(r io.Reader, line func(string)) {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		b, err := br.ReadSlice('\n')
		for _, part := range bytes.FieldsFunc(b, func(r rune) bool { return r == '\n' || r == '\r' }) {
			if s := clean(part); s != "" {
				line(s)
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// clean drops terminal control sequences (ECMA-48: ESC [ parameters final) and every byte that is not
// printable ASCII: a guest must not drive the terminal of the one who tries it.
func clean(b []byte) string {
	var out strings.Builder
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == 0x1b && i+1 < len(b) && b[i+1] == '[':
			for i += 2; i < len(b) && (b[i] < 0x40 || b[i] > 0x7e); i++ {
			}
		case c == '\t':
			out.WriteByte(' ')
		case c >= 0x20 && c <= 0x7e:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// A tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 2048
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-keep):]
	return len(p), nil
}

func (t *tail) text() string {
	return strings.Join(strings.Fields(clean(bytes.ReplaceAll(t.b, []byte("\n"), []byte(" ")))), " ")
}
