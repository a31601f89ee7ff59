package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/mkimage/tree"
	"tally/verity"
)

// A kernelCase is a tree that the kernel is to verify, and blocks of it to spoil.
type kernelCase struct {
	name    string
	p       verity.Params
	roots   int   // of error correction; 0 for none
	spoil   []int // blocks: of the data, then of the tree
	refused bool  // the kernel cannot read it all
	sign    func(*signers, verity.RootHash) []byte
	says    string // when the table is refused
}

var kernelCases = []kernelCase{
	{name: "sha512", p: verity.Params{DataBlocks: 700, Hash: verity.SHA512, Salt: []byte("salt of 32 bytes, or about that.")}},
	{name: "sha1, format 0, small blocks", p: verity.Params{DataBlocks: 400, Hash: verity.SHA1, Format0: true, DataBlockSize: 1024, HashBlockSize: 512, Salt: []byte{1}}},
	{name: "sha256, no superblock", p: verity.Params{DataBlocks: 129, NoSuperblock: true}},
	{name: "spoiled", p: verity.Params{DataBlocks: 129}, spoil: []int{77}, refused: true},
	{name: "2 roots", p: verity.Params{DataBlocks: 700, Salt: []byte{2}}, roots: 2, spoil: []int{5, 6, 703}},
	{name: "24 roots", p: verity.Params{DataBlocks: 300, Salt: []byte{24}}, roots: 24, spoil: []int{0, 2, 4, 11}},
	{name: "beyond repair", p: verity.Params{DataBlocks: 300}, roots: 2, spoil: []int{0, 2, 4, 6}, refused: true},
	{name: "signed, RSA", p: verity.Params{DataBlocks: 20}, sign: func(s *signers, r verity.RootHash) []byte { return s.rsa.sign(r) }},
	{name: "signed, ECDSA", p: verity.Params{DataBlocks: 21}, sign: func(s *signers, r verity.RootHash) []byte { return s.ecdsa.sign(r) }},
	{name: "signed, ECDSA, sha512", p: verity.Params{DataBlocks: 26, Hash: verity.SHA512}, sign: func(s *signers, r verity.RootHash) []byte { return s.ecdsa.sign(r) }},
	{name: "signed, spoiled data", p: verity.Params{DataBlocks: 130}, spoil: []int{5}, refused: true, sign: func(s *signers, r verity.RootHash) []byte { return s.rsa.sign(r) }},
	{name: "signature of another root hash", p: verity.Params{DataBlocks: 22}, says: "key was rejected by service", sign: func(s *signers, r verity.RootHash) []byte {
		return s.rsa.sign(otherRoot(r))
	}},
	{name: "signature of another root hash, ECDSA", p: verity.Params{DataBlocks: 23}, says: "key was rejected by service", sign: func(s *signers, r verity.RootHash) []byte {
		return s.ecdsa.sign(otherRoot(r))
	}},
	{name: "signed by a stranger", p: verity.Params{DataBlocks: 24}, says: "required key not available", sign: func(s *signers, r verity.RootHash) []byte { return s.stranger.sign(r) }},
	{name: "damaged signature", p: verity.Params{DataBlocks: 25}, says: "key was rejected by service", sign: func(s *signers, r verity.RootHash) []byte {
		sig := s.rsa.sign(r)
		sig[len(sig)-1] ^= 1
		return sig
	}},
}

// TestKernelVerifies gives trees and error correction data of this project to the kernel, some with bad
// blocks, some with signatures, in one boot: it must read the right data, repaired where it can be, and refuse
// the rest. Of the signatures it must take those by keys of its platform keyring, which are the firmware's db.
func TestKernelVerifies(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	verifier := filepath.Join(l.dir, "verifier")
	command(t, l.repo, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", verifier, "./internal/e2e/testdata/verifier")
	tr := tree.New()
	for _, e := range []tree.Entry{tree.NewFile("sbin/init", 0o755, read(t, verifier), "test"), {Path: "dev", Kind: tree.Dir, Mode: 0o755}, {Path: "proc", Kind: tree.Dir, Mode: 0o555}, {Path: "sys", Kind: tree.Dir, Mode: 0o555}} {
		if err := tr.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	keys := newSigners(t)
	var areas blob
	var cases []map[string]any
	var want []string
	for _, c := range kernelCases {
		described, digest := c.make(t, keys, &areas)
		cases = append(cases, described)
		line := fmt.Sprintf("verifier: %s: %x, <nil>", c.name, digest)
		switch {
		case c.refused:
			line = "input/output error"
		case c.says != "":
			line = c.says
		}
		want = append(want, line)
	}
	raw, cmdline := verityDisk(t, tr, areas.withHead(t, cases)...)
	m := qemu.Machine{QEMU: testtool.Need(t, qemu.Binary), Accel: qemu.TCG, MemoryMB: 512, CPUs: 1, Firmware: keys.enrolled(t, filepath.Join(l.out, "firmware/ovmf.fd")), Flash: true,
		Kernel: filepath.Join(l.out, "vmlinuz"), Initrd: filepath.Join(l.out, "initrd"), Cmdline: cmdline, Disk: raw}
	var said []byte
	_, err := qemu.Run(t.Context(), m, qemu.Options{Boot: 3 * time.Minute, Line: func(s string) { said = append(append(said, s...), '\n') },
		Until: func(s string) bool { return strings.Contains(s, "verifier: done") }, Ready: func(context.Context) {}})
	if !strings.Contains(string(said), "verifier: done, <nil>") {
		t.Fatalf("%v\n%s", err, said)
	}
	for i, c := range kernelCases {
		if got := consoleLine(said, "verifier: "+c.name+": "); !strings.Contains(got, want[i]) {
			t.Errorf("%s: kernel said %q, want %q\n%s", c.name, got, want[i], said)
		}
	}
}

func consoleLine(said []byte, with string) string {
	for _, line := range strings.Split(string(said), "\n") {
		if strings.Contains(line, with) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// make writes the data, the tree and the error correction data of a case into areas, and describes it for
// the verifier; digest is of the data before it was spoiled.
func (c kernelCase) make(t *testing.T, keys *signers, areas *blob) (described map[string]any, digest [sha256.Size]byte) {
	t.Helper()
	p := c.p
	for _, size := range []*int{&p.DataBlockSize, &p.HashBlockSize} {
		if *size == 0 {
			*size = verity.BlockSize
		}
	}
	data := make([]byte, int(p.DataBlocks)*p.DataBlockSize)
	rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", c.name)))).Read(data)
	digest = sha256.Sum256(data)
	hash := new(memory)
	root, err := verity.Format(t.Context(), bytes.NewReader(data), hash, p)
	if err != nil {
		t.Fatal(err)
	}
	table, start := kernelTable(p, root)
	where := map[string][2]uint64{}
	if c.roots > 0 {
		f := verity.FEC{Roots: c.roots, HashFileSize: int64(len(hash.b))}
		fec := new(memory)
		if err := verity.WriteFEC(t.Context(), bytes.NewReader(data), hash, fec, p, f); err != nil {
			t.Fatal(err)
		}
		covered := int(p.DataBlocks) + len(hash.b)/p.HashBlockSize - start
		table += fmt.Sprintf(" 8 use_fec_from_device FEC fec_roots %d fec_blocks %d fec_start 0", c.roots, covered)
		where["FEC"] = areas.add(fec.b)
	}
	for _, block := range c.spoil {
		b, at := data, block
		if block >= int(p.DataBlocks) {
			b, at = hash.b, block-int(p.DataBlocks)+start
		}
		rand.NewChaCha8([32]byte{byte(block)}).Read(b[at*p.DataBlockSize:][:p.DataBlockSize])
	}
	where["DATA"], where["HASH"] = areas.add(data), areas.add(hash.b)
	described = map[string]any{"Name": c.name, "Table": table, "Sectors": len(data) / 512, "Areas": where}
	if c.sign != nil {
		described["Signature"] = c.sign(keys, root)
	}
	return described, digest
}

// kernelTable is the verity table for p (Documentation/admin-guide/device-mapper/verity.rst), and the hash
// block at which the tree starts.
func kernelTable(p verity.Params, root verity.RootHash) (table string, start int) {
	salt, format := "-", 1
	if !p.NoSuperblock {
		start = 1
	}
	if len(p.Salt) > 0 {
		salt = fmt.Sprintf("%x", p.Salt)
	}
	if p.Format0 {
		format = 0
	}
	return fmt.Sprintf("%d DATA HASH %d %d %d %d %s %s %s", format, p.DataBlockSize, p.HashBlockSize, p.DataBlocks, start, p.Hash, root, salt), start
}

// A blob is areas one after the other, in whole blocks.
type blob struct{ b []byte }

// add appends an area and returns where it is behind the head, in sectors.
func (a *blob) add(b []byte) [2]uint64 {
	at := len(a.b)
	a.b = append(a.b, b...)
	a.b = append(a.b, make([]byte, -len(a.b)&4095)...)
	return [2]uint64{uint64(headSize+at) / 512, uint64(len(b)+511) / 512}
}

// headSize is where the areas start, in bytes: in front of them the cases, behind the magic that the
// verifier looks for.
const headSize, headMagic = 16 << 10, "tally e2e verity cases\n"

// withHead returns everything that is to stand behind the root's own hash tree.
func (a *blob) withHead(t *testing.T, cases []map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(cases)
	if err != nil || len(text)+len(headMagic) > headSize {
		t.Fatalf("%d bytes of cases, %v", len(text), err)
	}
	head := append([]byte(headMagic), text...)
	head = append(head, bytes.Repeat([]byte(" "), headSize-len(head))...)
	return append(head, a.b...)
}

// memory is a file that the workers of a tree can write.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m.b).ReadAt(p, off) }
