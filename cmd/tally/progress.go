package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// A progress says on stderr how far long work is: a line that rewrites itself on a terminal, a plain
// line every few seconds elsewhere, nothing with --quiet.
type progress struct {
	w        io.Writer
	terminal bool
	label    string
	total    int64 // bytes; 0 when unknown

	mu      sync.Mutex
	done    int64
	started time.Time
	shown   time.Time
	visible bool
}

// startProgress begins a piece of work of total bytes.
func (e *env) startProgress(label string, total int64) *progress {
	p := &progress{w: e.stderr, label: label, total: total, started: time.Now(), shown: time.Now()}
	if e.quiet {
		p.w = io.Discard
	}
	if f, ok := e.stderr.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	return p
}

// Write counts bytes, so that a progress fits into io.TeeReader and io.MultiWriter.
func (p *progress) Write(b []byte) (int, error) {
	p.add(int64(len(b)))
	return len(b), nil
}

func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	pause := 5 * time.Second
	if p.terminal {
		pause = 100 * time.Millisecond
	}
	if now := time.Now(); now.Sub(p.shown) >= pause {
		p.shown, p.visible = now, true
		p.show()
	}
}

func (p *progress) show() {
	const mib = 1 << 20
	text := fmt.Sprintf("%s: %d MiB", p.label, p.done/mib)
	if p.total > 0 {
		text = fmt.Sprintf("%s: %d of %d MiB, %d %%", p.label, p.done/mib, p.total/mib, 100*p.done/p.total)
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[Ktally: %s", text)
	} else {
		fmt.Fprintf(p.w, "tally: %s\n", text)
	}
}

// End removes the line that rewrites itself.
func (p *progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.visible {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
