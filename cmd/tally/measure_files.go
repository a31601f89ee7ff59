package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

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

// startKernel hashes --kernel and --initrd, the larger while the caller reads the firmware, and returns how to get
// the result; nil without --kernel. It makes two tasks of it: with three, two cores would take turns at them, and
// the initrd, which takes longest, would end later.
func startKernel(c *cli.Context, e *env) func() (*snp.KernelHashes, error) {
	if !c.IsSet("kernel") {
		return func() (*snp.KernelHashes, error) { return nil, nil }
	}
	h := &snp.KernelHashes{Initrd: snp.NoInitrd(), Cmdline: snp.HashCmdline(c.String("append"))}
	known := false
	kernel := func() (err error) { h.Kernel, known, err = readKernel(c.Context, c.String("kernel")); return err }
	first, second := kernel, func() error { return nil }
	if c.IsSet("initrd") {
		first, second = func() (err error) { h.Initrd, err = hashFile(c.Context, c.String("initrd")); return err }, kernel
	}
	done := make(chan error, 1)
	go func() { done <- first() }()
	return func() (*snp.KernelHashes, error) {
		if err := errors.Join(second(), <-done); err != nil {
			return nil, err
		}
		doubtKernel(c, e, known)
		return h, nil
	}
}

// doubtKernel names what is measured, since the VMM measures any bytes, and hardly meant.
func doubtKernel(c *cli.Context, e *env, known bool) {
	if !known {
		e.logf("%s: neither a Linux kernel for x86 (HdrS at byte 514) nor an EFI program (MZ), measured all the same: is it the --kernel?", c.String("kernel"))
	}
	if n := len(c.String("append")); n > maxAppend {
		e.logf("--append: %d bytes are measured, and a kernel for x86 takes at most %d of them", n, maxAppend)
	}
}

// maxAppend is COMMAND_LINE_SIZE of x86 less the NUL.
const maxAppend = 2047

// hashKernel is hashFile of a kernel, which is not empty: /dev/null is a script's missing file.
func hashKernel(ctx context.Context, path string) (sum [32]byte, err error) {
	sum, _, err = readKernel(ctx, path)
	return sum, err
}

// readKernel is hashKernel, and says whether the file begins as Linux for x86 (Documentation/arch/x86/boot.rst) or
// a UKI does.
func readKernel(ctx context.Context, path string) (sum [32]byte, known bool, err error) {
	head := make([]byte, 0x206)
	if sum, err = hashHead(ctx, path, head); err == nil && sum == sha256.Sum256(nil) {
		err = fmt.Errorf("%s: kernel: 0 bytes, want a kernel", path)
	}
	return sum, string(head[0x202:]) == "HdrS" || string(head[:2]) == "MZ", err
}

// hashFile returns the SHA-256 of a file.
func hashFile(ctx context.Context, path string) (sum [32]byte, err error) {
	return hashHead(ctx, path, nil)
}

// hashHead is hashFile, and fills head with the file's first bytes, as far as there are any.
func hashHead(ctx context.Context, path string, head []byte) (sum [32]byte, err error) {
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
		head = head[copy(head, buf[:n]):]
		if err == io.EOF {
			break
		} else if err != nil {
			return sum, err
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// inputFlags are the flags whose file an error of a measurement is about, by the word that it begins with.
var inputFlags = []struct {
	begin string
	flags []string
}{
	{"variable store: ", []string{"vars", "ovmf"}},
	{"disk: ", []string{"disk"}},
	{"ACPI tables: ", []string{"acpi-tables"}},
	{"SMBIOS", []string{"smbios"}},
	{"kernel: ", []string{"kernel", "uki"}},
	{"UKI: ", []string{"uki"}},
	{"firmware: ", []string{"ovmf"}},
}

// inInput names the file that err is about; that of the flag other, when the error does not say.
func inInput(c *cli.Context, err error, other string) error {
	for _, in := range inputFlags {
		for _, f := range in.flags {
			if name := c.String(f); name != "" && strings.HasPrefix(err.Error(), in.begin) {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return fmt.Errorf("%s: %w", c.String(other), err)
}
