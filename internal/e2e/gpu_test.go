package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/testtool"
	"tally/mkimage/lock"
)

// piece is device code for one GPU as nvcc writes it: a header of 64 bytes, and size bytes of fill.
func piece(kind uint16, arch uint32, size int, fill byte) []byte {
	le := binary.LittleEndian
	h := make([]byte, 64)
	le.PutUint16(h, kind)
	le.PutUint16(h[2:], 0x101)
	le.PutUint32(h[4:], uint32(len(h)))
	le.PutUint64(h[8:], uint64(size))
	le.PutUint32(h[28:], arch)
	return append(h, bytes.Repeat([]byte{fill}, size)...)
}

// fat is the fat binary of pieces.
func fat(pieces ...[]byte) []byte {
	all := bytes.Join(pieces, nil)
	le := binary.LittleEndian
	h := le.AppendUint32(nil, 0xba55ed50)
	h = le.AppendUint16(le.AppendUint16(h, 1), 16) // version, size of this header
	return append(le.AppendUint64(h, uint64(len(all))), all...)
}

const (
	fatAssembly = `	.section .nv_fatbin,"a"
	.balign 8
a:	.incbin "a.bin"
	.balign 8
b:	.incbin "b.bin"
	.balign 8
	.section .nvFatBinSegment,"aw"
	.balign 8
	.globl pointers
pointers:
	.long 0x466243b1, 1
	.quad a, 0
	.long 0x466243b1, 1
	.quad b, 0
	.section .note.GNU-stack,"",@progbits
`
	fatLibrary = `static int forty = 40;
static int *volatile p = &forty;
const char *words[] = {"one", "two"};
int answer(void) { return *p + 2 + (words[1][0] != 't'); }
`
	fatProgram = `#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
struct pointer { int magic, version; const unsigned char *data; void *none; };
int main(int n, char **a) {
	void *l = dlopen(a[1], RTLD_NOW);
	if (!l) { puts(dlerror()); return 1; }
	printf("%d\n", ((int (*)(void))dlsym(l, "answer"))());
	struct pointer *p = dlsym(l, "pointers");
	for (int i = 0; i < 2; i++) {
		unsigned long size;
		memcpy(&size, p[i].data + 8, 8);
		for (unsigned long j = 0; j < 16 + size; j++) printf("%02x", p[i].data[j]);
		puts("");
	}
}
`
)

// TestPrune has examples/gpu/engine/prune.py take code for other GPUs out of a shared library made by gcc, and the dynamic
// linker load the result: code, data and relocations are where they were, and each fat binary holds what is for one GPU.
func TestPrune(t *testing.T) {
	python, gcc := testtool.Need(t, "python3"), testtool.Need(t, "gcc")
	script, err := filepath.Abs("../../examples/gpu/engine/prune.py")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	inDir := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	ptx90, program90 := piece(1, 90, 5000, 'p'), piece(2, 90, 3003, 'q')
	library := func(a, b []byte) {
		t.Helper()
		for name, text := range map[string]string{"a.bin": string(a), "b.bin": string(b), "fat.s": fatAssembly, "lib.c": fatLibrary, "main.c": fatProgram} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, args := range [][]string{{"-shared", "-fPIC", "-Wl,--build-id", "-o", "lib.so", "lib.c", "fat.s"}, {"-o", "main", "main.c", "-ldl"}} {
			if out, err := inDir(gcc, args...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	}
	library(fat(piece(2, 80, 100_000, 'x'), ptx90), fat(piece(1, 50, 70_001, 'y'), program90, piece(2, 89, 90_000, 'z'), ptx90))
	if out, err := inDir(python, script, "lib.so", "small.so", "90"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "42\n" + hex.EncodeToString(fat(ptx90)) + "\n" + hex.EncodeToString(fat(program90, ptx90)) + "\n"
	if got, err := inDir("./main", "./small.so"); err != nil || got != want {
		t.Errorf("%v: %.200s\nwant %.200s", err, got, want)
	}
	was, is := size(t, filepath.Join(dir, "lib.so")), size(t, filepath.Join(dir, "small.so"))
	if taken := was - is; taken < 245_000 || taken%4096 != 0 {
		t.Errorf("%d of %d bytes are left", is, was)
	}
	for name, c := range map[string]struct {
		b         []byte
		arch, why string
	}{
		"not there":    {fat(program90), "70", "a fat binary without code for 70"},
		"damaged":      {append(fat(program90)[:17:17], bytes.Repeat([]byte{9}, 100_000)...), "90", "neither PTX nor a program"},
		"no fat one":   {bytes.Repeat([]byte{7}, 100_000), "90", "not a fat binary"},
		"nothing else": {fat(program90), "90", "nothing to take out"},
	} {
		library(fat(ptx90), c.b)
		if out, err := inDir(python, script, "lib.so", "none.so", c.arch); err == nil || !strings.Contains(out, c.why) {
			t.Errorf("%s: %v, %q, want %q", name, err, out, c.why)
		}
	}
	if out, err := inDir(python, script, "lib.c", "none.so", "90"); err == nil || !strings.Contains(out, "not a 64-bit little-endian ELF file") {
		t.Errorf("C: %v, %q", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "none.so")); err == nil {
		t.Error("a refused library was written")
	}
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestGPUVersions: what must be of one version is, in the lock of the image that CI does not build. The driver refuses another's
// firmware and libraries, the kernel modules for another, and libggml another's backend.
func TestGPUVersions(t *testing.T) {
	const file = "../../examples/gpu/image.lock"
	k, err := lock.Parse(read(t, file), file)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, p := range k.Packages {
		for _, user := range p.For {
			versions[user+" "+p.Name] = p.Version
		}
	}
	upstream := func(v string) string { return v[:strings.LastIndexByte(v, '-')] }
	for _, same := range [][]string{
		{"root.0 libcuda1", "root.0 libnvidia-ml1", "root.0 firmware-nvidia-gsp", "root.0 libnvidia-ptxjitcompiler1", "root.0 libnvidia-pkcs11-openssl3", "step.nvidia nvidia-open-kernel-source", "step.helper libnvidia-ml1"},
		{"root.0 libggml0", "root.0 libggml0-backend-cuda", "step.engine libggml0-backend-cuda"},
		{"root.0 libcublas12", "root.0 libcublaslt12"},
	} {
		for _, name := range same {
			if versions[name] == "" || upstream(versions[name]) != upstream(versions[same[0]]) {
				t.Errorf("%s is %q, %s %q", name, versions[name], same[0], versions[same[0]])
			}
		}
	}
	kernels := 0
	for name, version := range versions {
		release, ok := strings.CutPrefix(name, "kernel linux-image-")
		if !ok || !strings.ContainsAny(release, "0123456789") {
			continue
		}
		kernels++
		if headers := versions["step.nvidia linux-headers-"+release]; headers != version {
			t.Errorf("kernel %s %s, headers %q", release, version, headers)
		}
	}
	if kernels != 1 {
		t.Errorf("%d kernels in the lock, want one", kernels)
	}
}
