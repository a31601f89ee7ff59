package uki

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestRefuses(t *testing.T) {
	put := func(f fakePE, off int, v uint32) []byte {
		b := f.build()
		binary.LittleEndian.PutUint32(b[off:], v)
		return b
	}
	const coff, opt, table = 0x80, 0x80 + coffSize, 0x80 + coffSize + 112 + 16*8
	with := func(sections ...Section) []byte {
		f := fakeStub()
		f.sections = append(f.sections, sections...)
		return f.build()
	}
	stub, good := fakeStub(), fixture()
	tests := []struct {
		name string
		stub []byte
		want string
	}{
		{"empty", nil, "stub: no PE file"},
		{"text", []byte(strings.Repeat("x", 4096)), "stub: no PE file"},
		{"no signature", put(stub, coff, 0), "PE signature"},
		{"signature far away", put(stub, peOffset, 0xfffffff0), "PE signature"},
		{"ARM", put(stub, coff+4, 3<<16|0xaa64), "machine 0xaa64"},
		{"PE32", put(stub, opt, 0x10b), "want 0x20b, PE32+"},
		{"no EFI application", put(stub, opt+optSubsystem, 3), "subsystem 3"},
		{"no sections", put(stub, coff+4, machineAMD64), "0 sections"},
		{"too many sections", put(stub, coff+4, 97<<16|machineAMD64), "97 sections"},
		{"signed", put(stub, opt+optSecurity+4, 8), "signed already"},
		{"symbols", put(stub, coff+12, 1), "symbol table"},
		{"file alignment", put(stub, opt+optFileAlign, 48), "file alignment 48"},
		{"section outside", put(stub, table+16, 1<<30), `section ".text"`},
		{"section not aligned", put(stub, table+12, 4097), "not aligned"},
		{"sections overlap", put(stub, table+headerSize+12, 4096), "out of order"},
		{"a UKI", assemble(t, stub.build(), good), `section ".osrel" present`},
		{"a kernel within", with(Section{Name: ".linux", Data: []byte("x")}), `section ".linux" present`},
		{"profile", with(Section{Name: ".profile", Data: []byte("x")}), `section ".profile" present`},
		{"trailing bytes", append(stub.build(), 0), "1 bytes after the last section"},
		{"no sbat", fakePE{header: 1536, sections: stub.sections[:1]}.build(), "no section .sbat"},
		{"bad sbat", fakePE{header: 1536, sections: []Section{{Name: ".sbat", Data: []byte("hello")}}}.build(), `does not begin with "sbat,"`},
		{"no header space", fakePE{header: 512, sections: stub.sections[1:2]}.build(), "no header space"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Assemble(tt.stub, good); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRefusesParts(t *testing.T) {
	for want, change := range map[string]func(*Sections){
		"section .linux: no PE":         func(s *Sections) { s.Linux = nil },
		"section .linux: no PE file":    func(s *Sections) { s.Linux = []byte("\x1f\x8bgzip") },
		"section .cmdline: NUL":         func(s *Sections) { s.Cmdline = []byte("a\x00b") },
		"section .uname: NUL":           func(s *Sections) { s.Uname = []byte("6\x00") },
		"section .osrel: NUL":           func(s *Sections) { s.OSRelease = []byte{0} },
		"that of the image":             func(s *Sections) { s.SBAT = []byte("uki,1") },
		"bytes of merged lines, room f": func(s *Sections) { s.SBAT = []byte(sbatHeader + strings.Repeat("x", 512)) },
	} {
		s := fixture()
		change(&s)
		if _, err := Assemble(fakeStub().build(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Truncating a file anywhere must give an error or the sections that are wholly there, never a panic.
func TestTruncated(t *testing.T) {
	file := assemble(t, fakeStub().build(), fixture())
	for n := range len(file) {
		if n > 2048 && n%97 != 0 {
			continue
		}
		if _, err := Read(file[:n]); err == nil {
			t.Errorf("accepted %d of %d bytes", n, len(file))
		}
	}
}

func FuzzAssemble(f *testing.F) {
	f.Add(fakeStub().build(), fakeKernel().build())
	f.Add(fakeStub().build(), noNX().Linux)
	f.Add([]byte("MZ"), []byte{})
	f.Fuzz(func(t *testing.T, stub, linux []byte) {
		s := fixture()
		s.Linux = linux
		out, err := Assemble(stub, s)
		if err != nil {
			return
		}
		sections, err := Read(out)
		if err != nil {
			t.Fatalf("own output: %v", err)
		}
		if last := sections[len(sections)-1]; last.Name != ".initrd" || string(last.Data) != string(s.Initrd) {
			t.Fatalf("last section is %q of %d bytes", last.Name, len(last.Data))
		}
		if _, err := Assemble(out, s); err == nil {
			t.Fatal("a unified kernel image was accepted as stub")
		}
	})
}
