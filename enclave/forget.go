package enclave

import (
	"context"
	"runtime"
	"time"

	"tally/internal/erase"
)

// forgetEvery is how long the keys of ended sessions, and a retired key, may stay in memory. What nothing refers
// to any more is erased when it is collected, and an enclave at rest would not collect for minutes.
const forgetEvery = 2 * time.Second

// A forgetter collects soon after something has ended that must be forgotten.
type forgetter chan struct{}

func newForgetter() forgetter { return make(forgetter, 1) }

// ended notes that there is something to forget.
func (f forgetter) ended() {
	select {
	case f <- struct{}{}:
	default: // noted already
	}
}

// run collects until ctx ends. Many ends are one collection.
func (f forgetter) run(ctx context.Context) {
	for {
		select {
		case <-f:
		case <-ctx.Done():
			return
		}
		pause(ctx, forgetEvery)
		if erase.Works {
			runtime.GC()
		}
	}
}
