package main

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// hashOnly is the floor of every hash tree: two goroutines read a file in pieces of 512 KiB and hash each
// block of 4096 bytes with SHA-256, and do nothing with the digests. It returns the number of bytes.
func hashOnly(name string) (int64, error) {
	const piece, block, workers = 512 << 10, 4096, 2
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var wg sync.WaitGroup
	var next atomic.Int64
	var errs [workers]error
	var total [workers]int64
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			buf := make([]byte, piece)
			for {
				off := (next.Add(1) - 1) * piece
				n, err := f.ReadAt(buf, off)
				total[w] += int64(n)
				for b := buf[:n]; len(b) > 0; b = b[min(block, len(b)):] {
					sha256.Sum256(b[:min(block, len(b))])
				}
				if err != nil {
					if !errors.Is(err, io.EOF) {
						errs[w] = err
					}
					return
				}
			}
		}()
	}
	wg.Wait()
	return total[0] + total[1], errors.Join(errs[:]...)
}
