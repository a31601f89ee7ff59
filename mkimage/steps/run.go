package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tally/mkimage/tree"
)

// Options are what Run needs beside the step. Dir is required.
type Options struct {
	Dir   string // an existing directory for files that live as long as the Result
	Cache string // directory of outputs of earlier runs; "" runs the step whatever is known of it
	// Vary changes what must not matter: one CPU in place of all, address randomisation on in place of off,
	// other process numbers, and files made in reverse order.
	Vary bool
	Log  func(line string) // called for each line the command says, from one goroutine; may be nil
}

// ErrUnsupported says that build steps cannot be run here.
var ErrUnsupported = errors.New("build steps need Linux with user namespaces")

// An ExitError says how a command that was run ended when it did not succeed.
type ExitError struct {
	Step    string
	Command string   // its first word
	Status  int      // exit status, when Signal is ""
	Signal  string   // that ended it
	Last    []string // the last lines it said
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Status)
	if e.Signal != "" {
		how = "signal " + e.Signal
	}
	said := "it said nothing"
	if len(e.Last) > 0 {
		said = "its last words: " + strings.Join(e.Last, " | ")
	}
	return fmt.Sprintf("step %s: command %.80q ended with %s; %s", e.Step, e.Command, how, said)
}

// A TimeoutError says that a step was ended because it took too long.
type TimeoutError struct{ Step, Timeout string }

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("step %s: not done after %s (timeout)", e.Step, e.Timeout)
}

// Run runs s in a build root that begins as root, and returns what it made. When ctx ends, the step and all
// it started are killed. On an error nothing is left but files in o.Dir.
func Run(ctx context.Context, s Step, root *tree.Tree, o Options) (*Result, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("step %s: %w", s.Name, err)
	}
	if err := root.Complete(); err != nil {
		return nil, fmt.Errorf("step %s: %w", s.Name, err)
	}
	key, err := KeyOf(&s, root)
	if err != nil {
		return nil, err
	}
	kept := cache{o.Cache}
	if o.Cache != "" {
		if t := kept.load(ctx, &s, key); t != nil {
			return &Result{Key: key, Cached: true, Tree: t}, nil
		}
	}
	file := filepath.Join(o.Dir, "outputs.tar")
	if err := runFresh(ctx, &s, root, o, file); err != nil {
		return nil, err
	}
	t, err := readOutputs(ctx, &s, file)
	if err == nil && o.Cache != "" {
		err = kept.save(ctx, key, file)
	}
	if err != nil {
		return nil, fmt.Errorf("step %s: %w", s.Name, err)
	}
	return &Result{Key: key, Tree: t}, nil
}

// runFresh runs s and writes its outputs to file.
func runFresh(ctx context.Context, s *Step, root *tree.Tree, o Options, file string) error {
	mount := filepath.Join(o.Dir, "root")
	if err := os.Mkdir(mount, 0o755); err != nil {
		return err
	}
	defer os.Remove(mount)
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	late := &TimeoutError{s.Name, s.Timeout.String()}
	running, stop := context.WithTimeoutCause(ctx, s.Timeout, late)
	defer stop()
	t := &talk{log: o.Log}
	rep, err := enter(running, request{Step: *s, Mount: mount, Vary: o.Vary}, root, out, t)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case running.Err() != nil:
		return late
	case err != nil:
		return fmt.Errorf("step %s: %w", s.Name, err)
	case rep.Failure != "":
		return fmt.Errorf("step %s: %s", s.Name, rep.Failure)
	case rep.Status != 0 || rep.Signal != "":
		return &ExitError{Step: s.Name, Command: s.Command[0], Status: rep.Status, Signal: rep.Signal, Last: t.last}
	}
	return out.Close()
}

// Probe says why build steps cannot be run on this machine: it makes an empty build root, in a directory
// below dir, and ends.
func Probe(ctx context.Context, dir string) error {
	mount, err := os.MkdirTemp(dir, "tally-probe-")
	if err != nil {
		return err
	}
	defer os.Remove(mount)
	rep, err := enter(ctx, request{Step: Step{Disk: 1 << 20}, Mount: mount, Probe: true}, tree.New(), nil, &talk{})
	if err == nil && rep.Failure != "" {
		err = errors.New(rep.Failure)
	}
	return err
}
