package tdx

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"tally/measure/eventlog"
	"tally/measure/internal/once"
	"tally/measure/internal/pe"
	"tally/measure/pcr"
)

// A boot is what RTMR1 and RTMR2 are computed from: a kernel or a UKI.
type boot struct {
	direct  bool
	cmdline string // of a kernel
	initrd  eventlog.Digest
	gpt     []eventlog.Event
	image   map[bool]eventlog.Digest // Authenticode of kernel or UKI, by whether QEMU patched its header
	what    string                   // kernel or UKI
	signed  bool                     // the image carries a signature
	uki     *pcr.UKIBoot
}

// maxCmdline is the longest command line of an x86 kernel, without its NUL.
const maxCmdline = 2047

// readBoot reads kernel or UKI; nil when there is neither. forms says in which the image can arrive.
func readBoot(in Input, forms []bool) (*boot, error) {
	if !in.kernel() && in.UKI == nil {
		return nil, nil
	}
	if err := checkCmdline(in); err != nil {
		return nil, err
	}
	b := &boot{direct: in.Disk == nil, cmdline: in.Cmdline, image: map[bool]eventlog.Digest{}, what: "kernel"}
	return b, b.read(in, forms)
}

// wait takes the digest of the initrd, which was being computed.
func (b *boot) wait(initrd *Initrd) error {
	if b == nil || initrd == nil {
		return nil
	}
	d, err := initrd.digest()
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	b.initrd = d[:]
	return nil
}

// read reads all but the initrd.
func (b *boot) read(in Input, forms []bool) (err error) {
	if in.UKI != nil {
		b.what, forms = "UKI", []bool{false}
		if b.uki, err = pcr.ReadBoot(in.UKI, pcr.SHA384, in.Hashes); err != nil {
			return err
		}
	}
	if in.Disk != nil {
		gpt, err := pcr.GPT(in.Disk, pcr.SHA384)
		if err != nil {
			return err
		}
		b.gpt = []eventlog.Event{*gpt}
	}
	load := kernelLoad{memory: in.Memory, cmdline: in.Cmdline}
	if in.Initrd != nil {
		load.initrdSize = uint64(in.Initrd.size)
	}
	switch {
	case in.KernelFile != nil:
		err = b.fileDigests(*in.KernelFile, forms, load)
	case in.UKI != nil:
		err = b.digests(in.UKI, forms, load, in.Hashes)
	default:
		err = b.digests(in.Kernel, forms, load, in.Hashes)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", b.what, err)
	}
	return nil
}

// digests are the Authenticode digests of an image in memory in each form. A form is left out that needs the memory
// size when that was not given.
func (b *boot) digests(image []byte, forms []bool, load kernelLoad, hashes *once.Hashes) error {
	for _, patched := range forms {
		var lacks errLacks
		d, signed, err := imageDigest(image, patched, load, hashes)
		if err != nil && !errors.As(err, &lacks) {
			return err
		}
		b.image[patched], b.signed = d, b.signed || signed
	}
	return nil
}

// fileDigests are the digests of a kernel in a file, of all forms in one pass.
func (b *boot) fileDigests(file File, forms []bool, load kernelLoad) error {
	f, err := pe.OpenFile(file.R, file.Size)
	if err != nil {
		return err
	}
	var known []bool
	var heads [][]byte
	var hs []hash.Hash
	for _, patched := range forms {
		head := f.Head()
		if patched {
			var lacks errLacks
			if err := load.patch(head); errors.As(err, &lacks) {
				continue
			} else if err != nil {
				return err
			}
		}
		known, heads, hs = append(known, patched), append(heads, head), append(hs, sha512.New384())
	}
	if err := f.ForX64(); err != nil || len(hs) == 0 {
		return err
	}
	if b.signed, err = f.Authenticode(heads, hs); err != nil {
		return err
	}
	for i, patched := range known {
		b.image[patched] = hs[i].Sum(nil)
	}
	return nil
}

func checkCmdline(in Input) error {
	if !in.kernel() {
		return nil
	}
	if in.Initrd != nil && in.Initrd.size == 0 {
		return errors.New("initrd: empty: leave it out")
	}
	if in.Cmdline == "" || len(in.Cmdline) > maxCmdline || strings.ContainsFunc(in.Cmdline, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return fmt.Errorf("command line of %d bytes: want 1 to %d of printable ASCII", len(in.Cmdline), maxCmdline)
	}
	return nil
}

// imageDigest is the Authenticode digest of a kernel or UKI, and whether it is signed; errLacks when it needs
// the memory size and that was not given.
func imageDigest(image []byte, patched bool, l kernelLoad, hashes *once.Hashes) (d eventlog.Digest, signed bool, err error) {
	if patched {
		image, hashes = bytes.Clone(image), nil
		if err := l.patch(image); err != nil {
			return nil, false, err
		}
	}
	im, err := pe.Parse(image)
	if err == nil {
		err = im.ForX64()
	}
	if err != nil {
		return nil, false, err
	}
	return pcr.Authenticode(im, pcr.SHA384, hashes), im.Signed(), nil
}

// An Initrd is an initrd being hashed.
type Initrd struct {
	size   int64
	digest func() (Digest, error) // waits
}

// initrdChunk is how many bytes are read at a time: they are hashed while a core's cache holds them.
const initrdChunk = 64 << 10

// HashInitrd starts to hash the size bytes of r, an initrd, while the caller goes on. The result may be an
// input several times.
func HashInitrd(r io.ReaderAt, size int64) *Initrd {
	var d Digest
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		h := sha512.New384()
		var n int64
		n, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(r, 0, size)}, make([]byte, initrdChunk))
		if err == nil && n < size {
			err = fmt.Errorf("%d bytes, want %d: it became shorter", n, size)
		}
		h.Sum(d[:0])
	}()
	return &Initrd{size, func() (Digest, error) {
		<-done
		return d, err
	}}
}

// rtmr1 lists the events of RTMR1. A direct boot loads the image before the firmware is ready to boot, a
// boot from disk after it. With Secure Boot on the inner kernel is not measured.
func (b *boot) rtmr1(f Firmware, patched bool, m bootMode) ([]eventlog.Event, error) {
	if b.image[patched] == nil {
		return nil, errLacks("the memory size, which QEMU's change of the kernel's header depends on")
	}
	if m == modeOn && !b.signed {
		return nil, fmt.Errorf("%s: not signed: the firmware has Secure Boot keys and refuses it", b.what)
	}
	image := eventlog.Event{What: b.what + " (Authenticode)", Digest: b.image[patched], Covers: []eventlog.Part{eventlog.PartKernel}}
	if b.uki != nil {
		image.Covers = append(image.Covers, eventlog.PartInitrd, eventlog.PartCmdline)
	}
	if other := b.image[!patched]; other != nil {
		cause := map[bool]string{true: "QEMU did not patch the kernel's header", false: "QEMU patched the kernel's header"}[patched]
		image.Others = []eventlog.Other{{Cause: cause, Digest: other}}
	}
	ready := []eventlog.Event{action(callingApplication)}
	if f.Release >= 202411 {
		ready = append(ready, separator())
	}
	events := append([]eventlog.Event{image}, ready...)
	if !b.direct {
		events = append(append(ready, b.gpt...), image)
	}
	if b.uki != nil && m != modeOn {
		events = append(events, b.uki.Inner...)
	}
	return append(events, action(exitInvocation), action(exitSuccess)), nil
}

// rtmr2 lists the events of RTMR2: what the stub measures of a UKI, then what the kernel's own stub
// measures: its load options and its initrd.
func (b *boot) rtmr2(f Firmware) []eventlog.Event {
	if b.uki != nil {
		var events []eventlog.Event
		if b.uki.Stub >= 256 { // the first with the CC measurement protocol
			events = append(events, b.uki.Sections...)
		}
		return append(events, b.uki.Kernel...)
	}
	options, other := b.cmdline+" initrd=initrd", "initrd=initrd "+b.cmdline
	cause := "OVMF 202508 or later, which puts initrd=initrd in front"
	if f.Release >= 202508 {
		options, other, cause = other, options, "OVMF before 202508, which appends initrd=initrd"
	}
	if b.initrd == nil {
		return []eventlog.Event{covering(event("load options", utf16le(b.cmdline+"\x00")), eventlog.PartCmdline)}
	}
	e := covering(event("load options", utf16le(options+"\x00")), eventlog.PartCmdline)
	e.Others = []eventlog.Other{{Cause: cause, Digest: event("", utf16le(other+"\x00")).Digest}}
	return []eventlog.Event{e, {What: "initrd", Digest: b.initrd, Covers: []eventlog.Part{eventlog.PartInitrd}}}
}
