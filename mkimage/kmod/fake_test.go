package kmod

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"tally/mkimage/tree"
)

// fakeModule is a relocatable ELF64 file with nothing in it but .modinfo.
func fakeModule(modinfo ...string) []byte {
	const ehsize, shsize = 64, 64
	names := "\x00.modinfo\x00.shstrtab\x00"
	info := strings.Join(modinfo, "\x00") + "\x00"
	var b bytes.Buffer
	shoff := uint64(ehsize + len(info) + len(names))
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: shoff, Ehsize: ehsize, Shentsize: shsize, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	for _, v := range []any{
		&h, []byte(info), []byte(names), &elf.Section64{},
		&elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: ehsize, Size: uint64(len(info))},
		&elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: ehsize + uint64(len(info)), Size: uint64(len(names))},
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return append(b.Bytes(), "~Module signature appended~\n"...)
}

func pack(t testing.TB, data []byte, packing string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch packing {
	case "":
		return data
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".gz":
		w = gzip.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A fakeKernel collects the files of one kernel package.
type fakeKernel struct {
	t       testing.TB
	release string
	root    string
	tree    *tree.Tree
	builtin string
}

func newKernel(t testing.TB) *fakeKernel {
	return &fakeKernel{t: t, release: "6.1.0-test", root: "usr/lib/modules/", tree: tree.New()}
}

func (k *fakeKernel) file(path string, data []byte) {
	k.t.Helper()
	if err := k.tree.Add(tree.NewFile(k.root+k.release+"/"+path, 0o644, data, "package linux-image-test")); err != nil {
		k.t.Fatal(err)
	}
}

// module adds kernel/PATH with a name, a vermagic and the given strings.
func (k *fakeKernel) module(path string, modinfo ...string) {
	k.t.Helper()
	stem, packing, _ := splitName(path)
	all := append([]string{"name=" + Normalise(stem), "vermagic=" + k.release + " SMP"}, modinfo...)
	k.file("kernel/"+path, pack(k.t, fakeModule(all...), packing))
}

func (k *fakeKernel) done() *tree.Tree {
	k.file("modules.builtin", []byte(k.builtin))
	return k.tree
}

// debianKernel rebuilds the kernel of the vector file and returns the orders that modprobe gave.
func debianKernel(t testing.TB) (*tree.Tree, string, map[string][]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors/debian-6.12.117-modinfo.txt")
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(t)
	k.release = "6.12.117+deb13-cloud-amd64"
	orders := map[string][]string{}
	path, info := "", []string(nil)
	flush := func() {
		if path != "" {
			k.file(path, pack(t, fakeModule(info...), ".xz"))
		}
		path, info = "", nil
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "\t"):
			info = append(info, line[1:])
		case word == "module":
			flush()
			path = rest
		case word == "order":
			name, list, _ := strings.Cut(rest, ": ")
			orders[name] = strings.Fields(list)
		case word == "builtin":
			k.builtin += rest + "\n"
		}
	}
	flush()
	return k.done(), k.release, orders
}
