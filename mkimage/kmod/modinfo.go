package kmod

import (
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"tally/internal/xz"
	"tally/mkimage/tree"
)

// info is what counts of a module's .modinfo section. All names are normalised.
type info struct {
	name, vermagic     string
	depends, pre, post []string
}

// readAll returns the contents of e, checked against its size and digest.
func readAll(e *tree.Entry, limit int64) ([]byte, error) {
	if e.Size > limit {
		return nil, fmt.Errorf("path %q from %s: %d bytes, want at most %d", e.Path, e.Source, e.Size, limit)
	}
	var b bytes.Buffer
	err := e.CopyTo(context.Background(), &b, make([]byte, 64<<10))
	return b.Bytes(), err
}

// load reads, decompresses and checks one module.
func (k *kernel) load(name string, e *tree.Entry) (Module, *info, error) {
	packed, err := readAll(e, maxModule)
	if err != nil {
		return Module{}, nil, err
	}
	_, packing, _ := splitName(e.Path)
	m := Module{Name: name, Path: e.Path, Packed: packed}
	if m.Data, err = unpack(packed, packing); err != nil {
		return m, nil, fmt.Errorf("module %q: path %q: %w", name, e.Path, err)
	}
	in, err := modinfo(m.Data)
	if err != nil {
		return m, nil, fmt.Errorf("module %q: path %q: %w", name, e.Path, err)
	}
	if Normalise(in.name) != name {
		return m, nil, fmt.Errorf("module %q: path %q: .modinfo names it %q", name, e.Path, in.name)
	}
	if release, _, _ := strings.Cut(in.vermagic, " "); release != k.release {
		return m, nil, fmt.Errorf("module %q: path %q: built for kernel %q, want %q", name, e.Path, release, k.release)
	}
	return m, in, nil
}

func unpack(b []byte, packing string) ([]byte, error) {
	var r io.Reader
	var err error
	switch packing {
	case "":
		return b, nil
	case ".xz":
		r, err = xz.NewReader(bytes.NewReader(b), xz.MaxDict)
	case ".gz":
		r, err = gzip.NewReader(bytes.NewReader(b))
	case ".zst":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule)); err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil, fmt.Errorf("compressed as %s: %w", packing, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("compressed as %s: %w", packing, err)
	}
	if len(out) > maxModule {
		return nil, fmt.Errorf("decompressed: more than %d bytes", maxModule)
	}
	return out, nil
}

// modinfo reads the NUL-terminated "key=value" strings of a module's .modinfo section.
func modinfo(b []byte) (*info, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("no ELF file: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_REL {
		return nil, fmt.Errorf("ELF file of %v, %v, %v: want a relocatable x86-64 one", f.Class, f.Machine, f.Type)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_COMPRESSED != 0 || s.Size > uint64(len(b)) {
		return nil, fmt.Errorf("no plain section .modinfo: want a kernel module")
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("section .modinfo: %w", err)
	}
	in := &info{}
	for _, entry := range strings.Split(string(data), "\x00") {
		switch key, value, _ := strings.Cut(entry, "="); key {
		case "name":
			in.name = value
		case "vermagic":
			in.vermagic = value
		case "depends":
			in.depends = append(in.depends, names(strings.Split(value, ","))...)
		case "softdep":
			in.soft(value)
		}
	}
	return in, nil
}

// soft reads a value like "pre: a b post: c".
func (in *info) soft(value string) {
	list := (*[]string)(nil)
	for _, word := range strings.Fields(value) {
		switch {
		case word == "pre:":
			list = &in.pre
		case word == "post:":
			list = &in.post
		case list != nil:
			*list = append(*list, Normalise(word))
		}
	}
}

// names normalises names and leaves out empty ones: a module without dependencies says "depends=".
func names(raw []string) []string {
	var out []string
	for _, name := range raw {
		if name != "" {
			out = append(out, Normalise(name))
		}
	}
	return out
}
