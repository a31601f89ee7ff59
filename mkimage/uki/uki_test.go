package uki

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

// A fakePE says what to put into a small PE32+ file.
type fakePE struct {
	sections []Section // name and data; laid out in order
	header   int       // SizeOfHeaders
	nx       bool
}

func (f fakePE) build() []byte {
	const coff, optLen = 0x80, 112 + 16*8
	le := binary.LittleEndian
	b := make([]byte, f.header)
	copy(b, "MZ")
	le.PutUint32(b[peOffset:], coff)
	copy(b[coff:], "PE\x00\x00")
	le.PutUint16(b[coff+4:], machineAMD64)
	le.PutUint16(b[coff+6:], uint16(len(f.sections)))
	le.PutUint32(b[coff+8:], 1776109085) // TimeDateStamp
	le.PutUint16(b[coff+20:], optLen)
	le.PutUint16(b[coff+22:], 0x22e)
	opt := b[coff+coffSize:]
	le.PutUint16(opt, magicPE32P)
	le.PutUint32(opt[optInitData:], 0x5164)
	le.PutUint32(opt[16:], 4096) // AddressOfEntryPoint
	le.PutUint32(opt[optSectAlign:], 4096)
	le.PutUint32(opt[optFileAlign:], 512)
	le.PutUint32(opt[optHdrSize:], uint32(f.header))
	le.PutUint32(opt[optCheckSum:], 0x12345678)
	le.PutUint16(opt[optSubsystem:], subsystemEFI)
	if f.nx {
		le.PutUint16(opt[optDLLChars:], 0x160)
	}
	le.PutUint32(opt[optDirCount:], 16)
	addr := uint64(4096)
	for i, s := range f.sections {
		h := b[coff+coffSize+optLen+i*headerSize:]
		copy(h[:8], s.Name)
		le.PutUint32(h[8:], uint32(len(s.Data)))
		le.PutUint32(h[12:], uint32(addr))
		le.PutUint32(h[16:], uint32(roundUp(uint64(len(s.Data)), 512)))
		le.PutUint32(h[20:], uint32(len(b)))
		le.PutUint32(h[36:], 0x40000040)
		b = append(b, s.Data...)
		b = append(b, make([]byte, roundUp(uint64(len(b)), 512)-uint64(len(b)))...)
		addr = roundUp(addr+uint64(len(s.Data)), 4096)
	}
	le.PutUint32(b[coff+coffSize+optImageSize:], uint32(addr))
	return b
}

const stubSBAT = sbatHeader + "systemd-stub,1,The systemd Developers,systemd,257,https://systemd.io/\n"

func fakeStub() fakePE {
	return fakePE{header: 1536, nx: true, sections: []Section{
		{Name: ".text", Data: bytes.Repeat([]byte{0xc3}, 5000)},
		{Name: ".sbat", Data: []byte(stubSBAT)},
		{Name: ".reloc", Data: make([]byte, 12)},
	}}
}

func fakeKernel() fakePE {
	return fakePE{header: 1024, nx: true, sections: []Section{{Name: ".text", Data: bytes.Repeat([]byte("kernel"), 1000)}}}
}

func fixture() Sections {
	return Sections{
		OSRelease: []byte("ID=fixture\n"), Cmdline: []byte("console=ttyS0 quiet"), Uname: []byte("6.12.0-fixture"),
		Linux: fakeKernel().build(), Initrd: bytes.Repeat([]byte("initrd"), 1001),
	}
}

// What ukify 257.13-1~deb13u1 (python3-pefile 2023.2.7) makes of the same files, by the command in
// TestUkify; nx is the fixture, noNX has a kernel without the NX flag and with an .sbat section.
const (
	ukifyNX   = "dc8ef7ef10225077150c83a48cef547a9313c3716ec1dc13d1ad5c790bdcfdb0"
	ukifyNoNX = "2de25111ea1c8f732b8e583c732b89cc275998b172633ecd09d5129d9fb0b7d7"
)

func noNX() Sections {
	s := fixture()
	k := fakeKernel()
	k.nx = false
	k.sections = append(k.sections, Section{Name: ".sbat", Data: []byte(sbatHeader + "linux,1,Test,linux,6.12,https://example.org/\n")})
	s.Linux = k.build()
	return s
}

func assemble(t testing.TB, stub []byte, s Sections) []byte {
	t.Helper()
	before := bytes.Clone(stub)
	got, err := Assemble(stub, s)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stub, before) {
		t.Fatal("Assemble changed the stub it was given")
	}
	return got
}

func TestUkifyPinned(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Sections
		want string
	}{{"nx", fixture(), ukifyNX}, {"no nx, kernel sbat", noNX(), ukifyNoNX}} {
		sum := sha256.Sum256(assemble(t, fakeStub().build(), tt.s))
		if got := hex.EncodeToString(sum[:]); got != tt.want {
			t.Errorf("%s: %s, ukify made %s", tt.name, got, tt.want)
		}
	}
}

// Where ukify is installed (Debian from trixie on) it must make the same bytes; TestUkifyPinned holds its
// answer for everywhere else.
func TestUkify(t *testing.T) {
	ukify, err := exec.LookPath("ukify")
	if err != nil {
		t.Log("ukify is not installed; its recorded answer is checked by TestUkifyPinned")
		return
	}
	stub := fakeStub().build()
	for _, s := range []Sections{fixture(), noNX()} {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"stub": stub, "linux": s.Linux, "initrd": s.Initrd, "cmdline": s.Cmdline, "osrel": s.OSRelease} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(ukify, "build", "--stub=stub", "--linux=linux", "--initrd=initrd", "--cmdline=@cmdline",
			"--os-release=@osrel", "--uname="+string(s.Uname), "--output=uki")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ukify: %v\n%s", err, out)
		}
		want, err := os.ReadFile(filepath.Join(dir, "uki"))
		if err != nil {
			t.Fatal(err)
		}
		if got := assemble(t, stub, s); !bytes.Equal(got, want) {
			t.Errorf("%d bytes %x, ukify made %d bytes %x", len(got), sha256.Sum256(got), len(want), sha256.Sum256(want))
		}
	}
}

func TestReadBack(t *testing.T) {
	s := fixture()
	sections, err := Read(assemble(t, fakeStub().build(), s))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var names []string
	for _, sec := range sections {
		got[sec.Name] = string(sec.Data)
		names = append(names, sec.Name)
	}
	if diff := cmp.Diff([]string{".text", ".sbat", ".reloc", ".osrel", ".cmdline", ".uname", ".linux", ".initrd"}, names); diff != "" {
		t.Error(diff)
	}
	want := map[string]string{
		".text": strings.Repeat("\xc3", 5000), ".reloc": string(make([]byte, 12)), ".osrel": string(s.OSRelease), ".cmdline": string(s.Cmdline),
		".uname": string(s.Uname), ".linux": string(s.Linux), ".initrd": string(s.Initrd),
		".sbat": stubSBAT + strings.TrimPrefix(defaultSBAT, sbatHeader) + "\x00",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// objdump, another PE reader, must see the same sections at the same places.
func TestObjdump(t *testing.T) {
	objdump := testtool.Need(t, "objdump")
	p := filepath.Join(t.TempDir(), "uki.efi")
	file := assemble(t, fakeStub().build(), fixture())
	if err := os.WriteFile(p, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(objdump, "-h", "-w", p).Output()
	if err != nil {
		t.Fatal(err)
	}
	sections, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sections {
		found := false
		for _, line := range strings.Split(string(out), "\n") {
			f := strings.Fields(line)
			if len(f) < 7 || f[1] != s.Name {
				continue
			}
			found = f[2] == hex8(s.size) && strings.HasSuffix(f[3], hex8(s.addr)) && f[5] == hex8(s.raw)
		}
		if !found {
			t.Errorf("section %s of %s bytes at %s, offset %s: objdump says\n%s", s.Name, hex8(s.size), hex8(s.addr), hex8(s.raw), out)
		}
	}
}

func hex8(v uint32) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint32(nil, v))
}

func TestEmptyPartsGetNoSection(t *testing.T) {
	sections, err := Read(assemble(t, fakeStub().build(), Sections{Linux: fakeKernel().build()}))
	if err != nil {
		t.Fatal(err)
	}
	if len(sections) != 4 || sections[3].Name != ".linux" {
		t.Errorf("got %d sections, want the stub's three and .linux", len(sections))
	}
}
