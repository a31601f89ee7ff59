package ffs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"tally/measure/internal/fw"
)

func guid(text string) []byte { g := fw.ParseGUID(text); return g[:] }

// makeVolume is a firmware volume with a file system of these files.
func makeVolume(files ...[]byte) []byte {
	b := make([]byte, volumeSmallest)
	le := binary.LittleEndian
	copy(b[16:], guid(guidFFS2))
	copy(b[40:], "_FVH")
	le.PutUint16(b[48:], volumeSmallest)
	for _, f := range files {
		b = append(b, f...)
		for len(b)%8 != 0 {
			b = append(b, 0xff)
		}
	}
	b = append(b, bytes.Repeat([]byte{0xff}, 32)...)
	le.PutUint64(b[32:], uint64(len(b)))
	return seal(b)
}

// seal makes the sum of a volume's header zero.
func seal(b []byte) []byte {
	le := binary.LittleEndian
	le.PutUint16(b[50:], 0)
	sum := uint16(0)
	for i := 0; i < int(le.Uint16(b[48:])) && i+1 < len(b); i += 2 {
		sum += le.Uint16(b[i:])
	}
	le.PutUint16(b[50:], -sum)
	return b
}

func makeFile(name string, kind byte, body []byte) []byte {
	b := append(make([]byte, fileHeader), body...)
	copy(b, guid(name))
	b[18], b[20], b[21], b[22] = kind, byte(len(b)), byte(len(b)>>8), byte(len(b)>>16)
	return b
}

// makeSections puts sections, of a kind each, behind each other.
func makeSections(all ...ffsFile) (b []byte) {
	for _, s := range all {
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		n := len(s.body) + 4
		b = append(b, byte(n), byte(n>>8), byte(n>>16), s.kind)
		b = append(b, s.body...)
	}
	return b
}

const (
	someName = "52c05b14-0b98-496c-bc3b-04b50211d680"
	text     = "2026.08+ds-2"
)

// packedVolumes is what the LZMA section of a firmware holds; code is Tcg2Pei's.
func packedVolumes(code []byte, dxe ...[]byte) []byte {
	pei := makeVolume(makeFile(someName, filePEICore, nil), makeFile(someName, filePad, nil),
		makeFile(guidTcg2Pei, 6, makeSections(ffsFile{kind: 0x1b, body: UTF16("ignored")}, ffsFile{kind: sectionPE32, body: code})))
	s := []ffsFile{{kind: 0x19, body: make([]byte, 12)}, {kind: sectionVolume, body: pei}}
	for _, d := range dxe {
		s = append(s, ffsFile{kind: sectionVolume, body: d})
	}
	return makeSections(s...)
}

// TestManyTexts: a module made of strings does not have each looked for in the other volume.
func TestManyTexts(t *testing.T) {
	for n, want := range map[int]string{maxTexts - 1: text, maxTexts: ""} {
		code := UTF16(text)
		for i := range n {
			code = append(code, UTF16(fmt.Sprintf("text %d", i))...)
		}
		v, err := split(packedVolumes(code, dxeVolume(text)))
		if err != nil || v.Version != want {
			t.Errorf("%d strings and the release: %q, %v; want %q", n, v.Version, err, want)
		}
	}
}

func dxeVolume(smbios string) []byte {
	return makeVolume(makeFile(someName, fileDXECore, append([]byte("code"), UTF16(smbios+"\x00ignored")...)))
}

func TestSplit(t *testing.T) {
	code := func(texts ...string) (b []byte) {
		for _, s := range texts {
			b = append(append(b, 0x90, 0xc3), UTF16(s)...)
		}
		return b
	}
	for name, c := range map[string]struct {
		code    []byte
		smbios  string
		version string
	}{
		"one string":                  {code(text), text, text},
		"code looks like the start":   {append([]byte{'@', 0}, UTF16(text)...), text, ""},
		"others that SMBIOS has not":  {code("Other", text, "another"), text, text},
		"short":                       {code("1.0"), "1.0", ""},
		"none":                        {code(), text, ""},
		"not in SMBIOS":               {code(text), "2026.09", ""},
		"two":                         {code(text, "ignored"), text, ""},
		"twice":                       {code(text, text), text, text},
		"at an odd place is no start": {append([]byte{0xcc}, UTF16(text)...), text, ""},
	} {
		v, err := split(packedVolumes(c.code, dxeVolume(c.smbios)))
		if err != nil || v.Version != c.version || !v.Measures || len(v.Modules) != 2 || !bytes.Equal(v.DXE, dxeVolume(c.smbios)) {
			t.Errorf("%s: %+v, %v; want %q", name, v, err, c.version)
		}
	}
	v, err := split(makeSections(ffsFile{kind: sectionVolume, body: makeVolume(makeFile(someName, filePEICore, nil))}, ffsFile{kind: sectionVolume, body: dxeVolume(text)}))
	if err != nil || v.Measures || v.Version != "" {
		t.Errorf("without Tcg2Pei: %+v, %v", v, err)
	}
}

// patched is a copy of b with bytes at off.
func patched(b []byte, off int, with ...byte) []byte {
	c := bytes.Clone(b)
	copy(c[off:], with)
	return c
}

func TestVolumesRefuse(t *testing.T) {
	lzma := makeSections(ffsFile{kind: sectionGUIDed, body: append(append(guid(guidLZMA), 24, 0, 1, 0), make([]byte, 40)...)})
	file := makeFile(someName, fileVolume, lzma)
	good, first := makeVolume(file), volumeSmallest
	for name, c := range map[string]struct {
		image []byte
		says  string
	}{
		"nothing":          {nil, "no file of compressed volumes"},
		"no volume":        {make([]byte, 4096), "byte 0x0: no firmware volume"},
		"gap":              {append(bytes.Clone(good), make([]byte, 100)...), "no firmware volume in 100 bytes"},
		"long volume":      {patched(good, 35, 1), "volume of 16777"},
		"short header":     {seal(patched(good, 48, 70, 0)), "volume header of 70 bytes"},
		"long header":      {patched(good, 48, 0, 0x10), "volume header of 4096 bytes"},
		"header's sum":     {patched(good, 51, good[51]^1), "sum 0xff00, want 0"},
		"extended header":  {seal(patched(good, 52, 1)), "extended header at byte 0x1"},
		"large file":       {patched(good, first+19, 1), "attributes 0x1"},
		"long file":        {patched(good, first+22, 1), "file of 65"},
		"empty file":       {patched(good, first+20, 0), "file of 0 bytes"},
		"section":          {patched(good, first+fileHeader+2, 1), "section of 65"},
		"small section":    {patched(good, first+fileHeader, 3), "section of 3 bytes"},
		"other algorithm":  {patched(good, first+fileHeader+4, 0), "want one, compressed by LZMA"},
		"other section":    {patched(good, first+fileHeader+3, 1), "want one, compressed by LZMA"},
		"two sections":     {makeVolume(makeFile(someName, fileVolume, append(bytes.Clone(lzma), lzma...))), "with 2 sections"},
		"data in header":   {patched(good, first+fileHeader+20, 23), "data at byte 19"},
		"data behind":      {patched(good, first+fileHeader+20, 255), "data at byte 251"},
		"two files":        {makeVolume(file, file), "two files of compressed volumes"},
		"corrupt data":     {good, "compressed volumes: lzma: corrupt"},
		"other filesystem": {seal(patched(good, 16, 0)), "no file of compressed volumes"},
		"too large":        {make([]byte, fw.MaxSize+1), "want at most"},
	} {
		if v, err := ReadVolumes(c.image); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v; want %q", name, v, err, c.says)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	dxe, code := dxeVolume(text), UTF16(text)
	large := makeSections(ffsFile{kind: 0x19, body: make([]byte, 8)})
	copy(large, []byte{0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(large[4:], 7)
	noFiles := seal(patched(dxe, 16, 0))
	badModule := makeVolume(makeFile(someName, filePEICore, nil), makeFile(guidTcg2Pei, 6, []byte{9, 0, 0, 0}))
	for name, c := range map[string]struct {
		raw  []byte
		says string
	}{
		"one volume":    {packedVolumes(code), "1 volumes"},
		"three volumes": {packedVolumes(code, dxe, dxe), "3 volumes"},
		"no DXE core":   {packedVolumes(code, makeVolume()), "second volume: no file of type 0x05"},
		"no files":      {packedVolumes(code, noFiles), "second volume: not a file system"},
		"no PEI core":   {makeSections(ffsFile{kind: sectionVolume, body: dxe}, ffsFile{kind: sectionVolume, body: dxe}), "first volume: no file of type 0x04"},
		"stray bytes":   {append(makeSections(ffsFile{kind: 1}), 0), "1 stray bytes"},
		"large section": {large, "section of 7 bytes, want 8"},
		"Tcg2Pei":       {makeSections(ffsFile{kind: sectionVolume, body: badModule}, ffsFile{kind: sectionVolume, body: dxe}), "Tcg2Pei: byte 0x0 of the file: section of 9 bytes"},
	} {
		if v, err := split(c.raw); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v; want %q", name, v, err, c.says)
		}
	}
}

// TestExtendedHeader: the first file of a volume lies behind its extended header, at a multiple of 8.
func TestExtendedHeader(t *testing.T) {
	file := makeFile(someName, fileVolume, []byte("body"))
	for size, pad := range map[byte]int{20: 4, 24: 0, 29: 3} {
		ext := append(make([]byte, 16), size, 0, 0, 0)
		ext = append(ext, make([]byte, int(size)-20+pad)...)
		b := makeVolume(append(ext, file...))
		b[52] = volumeSmallest
		v, err := readVolume(seal(b))
		if err != nil {
			t.Fatal(err)
		}
		if files, err := v.list(); err != nil || len(files) != 1 || files[0].kind != fileVolume {
			t.Errorf("header of %d bytes: %+v, %v", size, files, err)
		}
		for _, long := range []byte{byte(len(b) - volumeSmallest), byte(len(b) - volumeSmallest + 1)} {
			b[volumeSmallest+16] = long
			if _, err := readVolume(b); (err == nil) != (int(long)+volumeSmallest <= len(b)) {
				t.Errorf("header of %d bytes in a volume of %d: %v", long, len(b), err)
			}
		}
	}
}

func FuzzVolumes(f *testing.F) {
	f.Add(packedVolumes(UTF16(text), dxeVolume(text)))
	f.Add(makeVolume(makeFile(someName, fileVolume, makeSections(ffsFile{kind: sectionGUIDed, body: append(append(guid(guidLZMA), 24, 0, 1, 0), make([]byte, 40)...)}))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := split(b); err == nil && (len(v.PEI) < volumeSmallest || len(v.DXE) < volumeSmallest || len(v.Version) > maxVersion) {
			t.Errorf("%+v", v)
		}
		ReadVolumes(b)
	})
}
