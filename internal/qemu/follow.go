package qemu

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"
)

// A follower reads a console and decides what the boot came to.
type follower struct {
	opt   Options
	ctx   context.Context
	stop  context.CancelFunc // kills the machine
	start time.Time
	ready chan struct{} // closed when the machine is ready
	wait  sync.WaitGroup

	mu  sync.Mutex
	res Result
}

// limit stops the machine when it is not ready in time. The channel closes when the watch is over.
func (f *follower) limit(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	if f.opt.Boot <= 0 {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		t := time.NewTimer(f.opt.Boot)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-f.ready:
		case <-t.C:
			f.end(TimedOut, "")
			f.stop()
		}
	}()
	return done
}

// follow reads the console to its end.
func (f *follower) follow(console io.Reader) {
	isReady := false
	readLines(console, func(line string) {
		if f.opt.Line != nil {
			f.opt.Line(line)
		}
		f.judge(line)
		if !isReady && f.isReady(line) {
			isReady = true
			close(f.ready)
			f.goOn()
		}
	})
}

func (f *follower) isReady(line string) bool {
	if f.opt.Until != nil {
		return f.opt.Until(line)
	}
	return serves(line)
}

// goOn runs the caller's Ready beside the console and then stops the machine.
func (f *follower) goOn() {
	if f.opt.Ready == nil {
		return
	}
	f.wait.Add(1)
	go func() {
		defer f.wait.Done()
		f.opt.Ready(f.ctx)
		f.end(Stopped, "")
		f.stop()
	}()
}

// end records how the boot ends; the first word counts.
func (f *follower) end(e End, detail string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.res.End == "" {
		f.res.End, f.res.Detail = e, detail
	}
}

func (f *follower) result() Result {
	f.end(PoweredOff, "")
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.res
}

// judge looks for the lines that decide. All of them are the guest's own word, which is enough for a
// trial and nothing more.
func (f *follower) judge(line string) {
	switch {
	case serves(line):
		f.mu.Lock()
		if !f.res.Served {
			f.res.Served, f.res.ServeIn = true, time.Since(f.start)
		}
		f.mu.Unlock()
	case strings.Contains(line, "device-mapper: verity: ") && strings.HasSuffix(line, "is corrupted"):
		_, detail, _ := strings.Cut(line, "device-mapper: ")
		f.end(HashTree, detail)
	case strings.HasPrefix(line, "tally-init: refused: "), strings.HasPrefix(line, "tally-enclave: refused: "):
		f.end(Refused, line)
	case strings.Contains(line, "Kernel panic - not syncing: "):
		_, detail, _ := strings.Cut(line, "Kernel panic - not syncing: ")
		if strings.HasPrefix(detail, "dm-verity device corrupted") {
			f.end(HashTree, detail)
			return
		}
		f.end(Panicked, detail)
	}
}

// serves recognises the enclave's line "tally-enclave: serving on :PORT".
func serves(line string) bool { return strings.HasPrefix(line, "tally-enclave: serving on :") }
