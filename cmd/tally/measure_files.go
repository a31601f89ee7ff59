package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"slices"

	"tally/internal/cli"
	"tally/measure/snp"
)

var errNoKernel = usagef("--initrd and --append need --kernel: without one the VMM passes no hashes")

// refuseEmpty refuses an option given with nothing: that is a script's unset variable, never "without".
func refuseEmpty(c *cli.Context, flags ...string) error {
	for _, f := range flags {
		if c.IsSet(f) && c.String(f) == "" {
			return usagef("--%s is empty: leave it out, or name something (an unset variable?)", f)
		}
	}
	return nil
}

// refuseEmptyLists is refuseEmpty for options that may stand several times.
func refuseEmptyLists(c *cli.Context, flags ...string) error {
	for _, f := range flags {
		if c.IsSet(f) && (len(c.StringSlice(f)) == 0 || slices.Contains(c.StringSlice(f), "")) {
			return usagef("--%s is empty: leave it out, or name something (an unset variable?)", f)
		}
	}
	return nil
}

// startKernel hashes --kernel and --initrd, each on its own, while the caller reads the firmware, and
// returns how to get the result; nil without --kernel.
func startKernel(c *cli.Context) func() (*snp.KernelHashes, error) {
	if !c.IsSet("kernel") {
		return func() (*snp.KernelHashes, error) { return nil, nil }
	}
	h := &snp.KernelHashes{Initrd: snp.NoInitrd(), Cmdline: snp.HashCmdline(c.String("append"))}
	done := make(chan error, 2)
	hash := func(name string, sum *[32]byte) {
		var err error
		*sum, err = hashFile(c.Context, name)
		done <- err
	}
	n := 1
	go hash(c.String("kernel"), &h.Kernel)
	if c.IsSet("initrd") {
		n++
		go hash(c.String("initrd"), &h.Initrd)
	}
	return func() (*snp.KernelHashes, error) {
		var errs []error
		for range n {
			errs = append(errs, <-done)
		}
		return h, errors.Join(errs...)
	}
}

// hashFile returns the SHA-256 of a file.
func hashFile(ctx context.Context, path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h, buf := sha256.New(), make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		} else if err != nil {
			return sum, err
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}
