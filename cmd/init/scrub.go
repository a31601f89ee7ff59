//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// scrub reads size bytes of the verified device, so that a changed block anywhere stops the machine now
// and not when somebody first needs it. (The kernel panics inside the read.)
func scrub(device string, size uint64, say func(string, ...any)) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	return scrubReader(f, size, say)
}

func scrubReader(r io.Reader, size uint64, say func(string, ...any)) error {
	const quarter = 4
	start, buf := time.Now(), make([]byte, 1<<20)
	var done uint64
	for shown := uint64(1); done < size; {
		n, err := r.Read(buf[:min(uint64(len(buf)), size-done)])
		done += uint64(n)
		if err != nil && done < size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("scrub: at byte %d of %d: %w", done, size, err)
		}
		for ; shown < quarter && done >= size/quarter*shown; shown++ {
			if size > 64<<20 { // small roots are read before anybody could wonder
				say("scrub: %d %% of %d MiB", 100/quarter*shown, size>>20)
			}
		}
	}
	say("scrub: all %d blocks read and as measured, %d ms", size/blockSize, time.Since(start).Milliseconds())
	return nil
}
