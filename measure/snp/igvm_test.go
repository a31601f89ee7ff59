package snp

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
)

func simpleIGVM(t testing.TB) []byte {
	return unxz(t, "testdata/vectors/simple.igvm.xz", "3626e09ab20aabe222d944aea44882bc4674c28dfe50d8ec67f086dc515def76")
}

// TestIGVM compares with the digest that the file's maker computed: see simple-igvm.py.
func TestIGVM(t *testing.T) {
	l, err := MeasureIGVM(simpleIGVM(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := "e706ae13b8318661de068a183c84b65f62cd5506d9a904533d1da4b150f949c58a5669a42bedc73c9bc4cf8972c777d3"; l.Digest.String() != want {
		t.Errorf("launch digest %s, want %s", l.Digest, want)
	}
	var got []string
	for _, e := range l.Events {
		got = append(got, e.What+" "+e.Type)
	}
	if s := strings.Join(got, ", "); s != "page data normal, page data unmeasured, SECRETS secrets, CPUID cpuid, parameters unmeasured, vmsa vmsa" {
		t.Error(s)
	}
	if l.Events[0].Pages != 3 || l.Events[4].Pages != 2 || l.Events[5].Digest != l.Digest {
		t.Errorf("%+v", l.Events)
	}
}

// resum sets the checksum that a changed file would have.
func resum(b []byte) []byte {
	le := binary.LittleEndian
	le.PutUint32(b[20:], 0)
	fixed := 24
	if b[4] == 2 && len(b) >= 32 {
		fixed = 32
	}
	sum := crc32.ChecksumIEEE(b[:fixed])
	start, size := le.Uint32(b[8:]), le.Uint32(b[12:])
	le.PutUint32(b[20:], crc32.Update(sum, crc32.IEEETable, b[start:start+size]))
	return b
}

// A part is a variable header: its type and its fields.
type part []any

// makeIGVM is a file of version 1 with the SNP platform as bit 0, these headers and one save area's data at vmsaData.
func makeIGVM(parts ...part) []byte {
	const vmsaData = 20000
	le := binary.LittleEndian
	b := make([]byte, 24)
	copy(b, "IGVM")
	le.PutUint32(b[4:], 1)
	for _, p := range append([]part{{uint32(igvmPlatform), uint32(1), byte(0), byte(igvmTypeSNP), uint16(1), uint64(0)}}, parts...) {
		var d bytes.Buffer
		for _, f := range p[1:] {
			binary.Write(&d, le, f)
		}
		b = le.AppendUint32(le.AppendUint32(b, p[0].(uint32)), uint32(d.Len()))
		b = append(append(b, d.Bytes()...), make([]byte, (8-d.Len()%8)%8)...)
	}
	le.PutUint32(b[8:], 24)
	le.PutUint32(b[12:], uint32(len(b)-24))
	b = append(b, make([]byte, vmsaData+pageSize-len(b))...)
	b[vmsaData+0x158] = 0x30
	le.PutUint32(b[16:], uint32(len(b)))
	return resum(b)
}

// The headers of a page of zeros, a parameter area, its insertion and a save area, for the platforms in mask.
func igvmPage(gpa uint64, mask, flags uint32) part {
	return part{uint32(igvmPageData), gpa, mask, uint32(0), flags, uint16(0), uint16(0)}
}

func igvmArea(size uint64, index uint32) part {
	return part{uint32(igvmParameterArea), size, index, uint32(0)}
}

func igvmInsert(gpa uint64, mask, index uint32) part {
	return part{uint32(igvmParameterIns), gpa, mask, index}
}

func igvmSave(mask uint32) part {
	return part{uint32(igvmVPContext), uint64(vmsaGPA), mask, uint32(20000), uint16(0), uint16(0)}
}

// TestIGVMTwoMegabytes: a large page is 512 small ones.
func TestIGVMTwoMegabytes(t *testing.T) {
	var small []part
	for i := range uint64(512) {
		small = append(small, igvmPage(2<<20+i*4096, 1, 0))
	}
	many, err := MeasureIGVM(makeIGVM(append(small, igvmSave(1))...))
	if err != nil {
		t.Fatal(err)
	}
	one, err := MeasureIGVM(makeIGVM(igvmPage(2<<20, 1, igvm2MB), igvmSave(1)))
	if err != nil || one.Digest != many.Digest || one.Events[0].Pages != 512 {
		t.Errorf("%v, %v and %s", one, err, many.Digest)
	}
}

// TestIGVMHeaders: what is for another platform does not count, and what KVM would measure in another order or in part
// is refused.
func TestIGVMHeaders(t *testing.T) {
	const all = maxIGVMPages * pageSize
	base, err := MeasureIGVM(makeIGVM(igvmPage(0x1000, 1, 0), igvmArea(8192, 1), igvmInsert(0x4000, 1, 1), igvmSave(1)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		parts []part
		want  string // in the error; "": as base
	}{
		"another's page":      {[]part{igvmPage(0x1000, 1, 0), igvmPage(0x2000, 2, 0), igvmArea(8192, 1), igvmInsert(0x4000, 1, 1), igvmSave(1)}, ""},
		"another's insertion": {[]part{igvmPage(0x1000, 1, 0), igvmArea(8192, 1), igvmInsert(0x8000, 2, 1), igvmInsert(0x4000, 1, 1), igvmSave(1)}, ""},
		"another's save area": {[]part{igvmSave(2), igvmPage(0x1000, 1, 0), igvmArea(8192, 1), igvmInsert(0x4000, 1, 1), igvmSave(1)}, ""},
		"both platforms'":     {[]part{igvmPage(0x1000, 3, 0), igvmArea(8192, 1), igvmInsert(0x4000, 3, 1), igvmSave(3)}, ""},
		"page behind":         {[]part{igvmSave(1), igvmPage(0x1000, 1, 0)}, "behind a save area"},
		"insertion behind":    {[]part{igvmArea(4096, 1), igvmSave(1), igvmInsert(0x4000, 1, 1)}, "behind a save area"},
		"area twice":          {[]part{igvmArea(4096, 1), igvmArea(4096, 1), igvmSave(1)}, "parameter area 1"},
		"area of nothing":     {[]part{igvmArea(0, 1), igvmSave(1)}, "parameter area 1"},
		"area too large":      {[]part{igvmArea(all+pageSize, 1), igvmSave(1)}, "parameter area 1"},
		"inserted twice":      {[]part{igvmArea(4096, 1), igvmInsert(0x4000, 1, 1), igvmInsert(0x8000, 1, 1), igvmSave(1)}, "inserted before"},
		"odd insertion":       {[]part{igvmArea(4096, 1), igvmInsert(0x4001, 1, 1), igvmSave(1)}, "want a multiple"},
		"a page too many":     {[]part{igvmPage(0x1000, 1, 0), igvmArea(all, 1), igvmInsert(0x10000, 1, 1), igvmSave(1)}, "more than 262144 pages"},
		"as many as may be":   {[]part{igvmArea(all, 1), igvmInsert(0x10000, 1, 1)}, "no save area"},
		"save areas":          {slices.Repeat([]part{igvmSave(1)}, MaxVCPUs+1), "more than 512 save areas"},
		"highest page":        {[]part{igvmPage(1<<52, 1, 0), igvmSave(1)}, "above 52 bits"},
	} {
		l, err := MeasureIGVM(makeIGVM(c.parts...))
		switch {
		case c.want == "" && (err != nil || l.Digest != base.Digest):
			t.Errorf("%s: %v, %v; want %s", name, l, err, base.Digest)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

// secondVersion is a file of makeIGVM's as one of version 2: eight bytes more of header, and less of padding.
func secondVersion(b []byte, architecture, page uint32) []byte {
	le := binary.LittleEndian
	b = slices.Delete(bytes.Clone(b), 10000, 10008)
	b = slices.Insert(b, 24, le.AppendUint32(le.AppendUint32(nil, architecture), page)...)
	b[4], b[8] = 2, 32
	return resum(b)
}

// TestIGVMVersions: both versions of the format give one digest, and the second is that of x64 with small pages.
func TestIGVMVersions(t *testing.T) {
	first := makeIGVM(igvmPage(0x1000, 1, 0), igvmSave(1))
	second := secondVersion(first, 0, pageSize)
	a, err := MeasureIGVM(first)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := MeasureIGVM(second); err != nil || a.Digest != b.Digest {
		t.Errorf("%+v, %v; want %s", b, err, a.Digest)
	}
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"architecture": {secondVersion(first, 1, pageSize), "version 2 header"},
		"pages":        {secondVersion(first, 0, 16384), "version 2 header"},
		"short":        {second[:31], "version 2 header"},
		"its checksum": {slices.Replace(bytes.Clone(second), 20, 21, second[20]^1), "checksum"},
		"magic":        {slices.Replace(bytes.Clone(second), 0, 1, 'J'), "no IGVM header"},
		"a byte short": {second[:23], "no IGVM header"},
		"too large":    {make([]byte, MaxIGVM+1), "want at most"},
	} {
		if l, err := MeasureIGVM(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, l, err, c.want)
		}
	}
}

func TestIGVMRefusals(t *testing.T) {
	le := binary.LittleEndian
	good := simpleIGVM(t)
	// Offsets of headers in the file, behind 8 bytes of type and length each.
	const platform, other, policy, area, page, insert = 24 + 8, 24 + 24 + 8, 24 + 48 + 8, 24 + 72 + 8, 24 + 72 + 24 + 16 + 8, 24 + 72 + 24 + 16 + 8*32 + 8
	const vmsa = insert + 24
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":           {func(b []byte) []byte { return nil }, "no IGVM header"},
		"version":         {func(b []byte) []byte { b[4] = 3; return b }, "format version 3"},
		"cut":             {func(b []byte) []byte { return b[:len(b)-1] }, "header says"},
		"checksum":        {func(b []byte) []byte { b[page] ^= 1; return b }, "checksum"},
		"headers outside": {func(b []byte) []byte { le.PutUint32(b[12:], 1<<31); return b }, "variable headers"},
		"headers inside":  {func(b []byte) []byte { le.PutUint32(b[8:], 8); return b }, "variable headers"},
		"no snp":          {func(b []byte) []byte { b[platform+5] = 1; return resum(b) }, "no SEV-SNP platform"},
		"two snp":         {func(b []byte) []byte { b[other+5] = 2; return resum(b) }, "a second SNP platform"},
		"wide mask":       {func(b []byte) []byte { b[platform] = 3; return resum(b) }, "not one bit"},
		"relocatable":     {func(b []byte) []byte { le.PutUint32(b[policy-8:], 0x102); le.PutUint32(b[policy:], 1); return resum(b) }, "relocatable"},
		"unknown":         {func(b []byte) []byte { le.PutUint32(b[area-8:], 0x314); return resum(b) }, "header 0x314"},
		"optional":        {func(b []byte) []byte { le.PutUint32(b[area-8:], 1<<31|0x500); return resum(b) }, "unknown"},
		"long header":     {func(b []byte) []byte { le.PutUint32(b[area-4:], 1<<20); return resum(b) }, "are left"},
		"short header":    {func(b []byte) []byte { le.PutUint32(b[area-4:], 15); return resum(b) }, "shorter than 16"},
		"odd area":        {func(b []byte) []byte { b[area] = 1; return resum(b) }, "not whole pages"},
		"huge area":       {func(b []byte) []byte { b[area+6] = 1; return resum(b) }, "not whole pages"},
		"shared page":     {func(b []byte) []byte { b[page+16] = 4; return resum(b) }, "flags 0x4"},
		"odd address":     {func(b []byte) []byte { b[page] = 1; return resum(b) }, "want a multiple"},
		"high address":    {func(b []byte) []byte { b[page+7] = 0xff; return resum(b) }, "above 52 bits"},
		"data outside":    {func(b []byte) []byte { le.PutUint32(b[page+12:], 1<<30); return resum(b) }, "the file has"},
		"data type":       {func(b []byte) []byte { b[page+20] = 9; return resum(b) }, "data type 9"},
		"page twice":      {func(b []byte) []byte { le.PutUint64(b[page:], 0x101000); return resum(b) }, "page at 0x101000 twice"},
		"no area":         {func(b []byte) []byte { b[insert+12] = 9; return resum(b) }, "not declared"},
		"area over page":  {func(b []byte) []byte { le.PutUint64(b[insert:], 0x100000); return resum(b) }, "twice"},
		"vmsa elsewhere":  {func(b []byte) []byte { b[vmsa+1] = 0; return resum(b) }, "KVM puts it at"},
		"vmsa without":    {func(b []byte) []byte { le.PutUint32(b[vmsa+12:], 0); return resum(b) }, "no data"},
		"cr0":             {func(b []byte) []byte { b[len(b)-pageSize+0x158] = 0x11; return b }, "CR0 0x11"},
		"no vmsa":         {func(b []byte) []byte { b[vmsa+8] = 2; return resum(b) }, "no save area"},
	} {
		if l, err := MeasureIGVM(c.change(bytes.Clone(good))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, l, err, c.want)
		}
	}
}

func FuzzMeasureIGVM(f *testing.F) {
	f.Add(simpleIGVM(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		MeasureIGVM(b)
		if len(b) < 24 {
			return
		}
		le := binary.LittleEndian // again with the sums right, to get behind them
		le.PutUint32(b[16:], uint32(len(b)))
		if start, size := le.Uint32(b[8:]), le.Uint32(b[12:]); uint64(start)+uint64(size) <= uint64(len(b)) {
			MeasureIGVM(resum(b))
		}
	})
}
