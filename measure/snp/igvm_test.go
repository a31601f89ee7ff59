package snp

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
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
	sum := crc32.ChecksumIEEE(b[:24])
	start, size := le.Uint32(b[8:]), le.Uint32(b[12:])
	le.PutUint32(b[20:], crc32.Update(sum, crc32.IEEETable, b[start:start+size]))
	return b
}

// TestIGVMTwoMegabytes: a large page is 512 small ones.
func TestIGVMTwoMegabytes(t *testing.T) {
	le := binary.LittleEndian
	large := func(n int) *Launch {
		b := make([]byte, 24)
		copy(b, "IGVM")
		le.PutUint32(b[4:], 1)
		add := func(typ uint32, fields ...any) {
			var d bytes.Buffer
			for _, f := range fields {
				binary.Write(&d, le, f)
			}
			b = le.AppendUint32(le.AppendUint32(b, typ), uint32(d.Len()))
			b = append(append(b, d.Bytes()...), make([]byte, (8-d.Len()%8)%8)...)
		}
		add(1, uint32(1), byte(0), byte(2), uint16(1), uint64(0))
		if n == 1 {
			add(0x302, uint64(2<<20), uint32(1), uint32(0), uint32(1), uint16(0), uint16(0))
		} else {
			for i := range 512 {
				add(0x302, uint64(2<<20+i*4096), uint32(1), uint32(0), uint32(0), uint16(0), uint16(0))
			}
		}
		const vmsa = 20000
		add(0x304, uint64(vmsaGPA), uint32(1), uint32(vmsa), uint16(0), uint16(0))
		le.PutUint32(b[8:], 24)
		le.PutUint32(b[12:], uint32(len(b)-24))
		b = append(b, make([]byte, vmsa+pageSize-len(b))...)
		b[vmsa+0x158] = 0x30
		le.PutUint32(b[16:], uint32(len(b)))
		l, err := MeasureIGVM(resum(b))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if one, many := large(1), large(512); one.Digest != many.Digest || one.Events[0].Pages != 512 {
		t.Errorf("%s and %s", one.Digest, many.Digest)
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
