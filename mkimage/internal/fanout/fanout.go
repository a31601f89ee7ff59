// Package fanout writes the same bytes to several places at the same time: so a stream that is hashed
// twice and stored costs, on several cores, what the slowest of the three costs.
package fanout

import (
	"io"
	"sync"
)

// small is the size in bytes below which starting goroutines would cost more than they save: SHA-256 takes
// about 30 µs for so much.
const small = 64 << 10

// A Writer hands every piece to all of its writers and returns when the last of them has taken it. A piece
// of less than 64 KiB is handed to one after the other. When several fail, the error is that of the first
// in order; what the others have taken by then is undefined.
type Writer []io.Writer

// Write implements io.Writer. The writers may not change or keep p, as with any io.Writer.
func (w Writer) Write(p []byte) (int, error) {
	if len(p) < small {
		for i := range w {
			if err := write(w[i], p); err != nil {
				return 0, err
			}
		}
		return len(p), nil
	}
	errs := make([]error, len(w))
	var all sync.WaitGroup
	for i := range w[1:] {
		all.Go(func() { errs[i+1] = write(w[i+1], p) })
	}
	errs[0] = write(w[0], p) // the caller's goroutine is as good as any
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func write(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}
