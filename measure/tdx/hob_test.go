package tdx

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"tally/measure/internal/fw"
)

func sections(t testing.TB) []fw.TDSection {
	t.Helper()
	b := ovmf(t)
	s, err := fw.ReadTDVF(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTDHOBRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		memory uint64
		change func(s []fw.TDSection) []fw.TDSection
		want   string
	}{
		"none":       {0, nil, "memory of 0 bytes"},
		"odd":        {1<<30 + 4096, nil, "multiple of 1 MiB"},
		"huge":       {1 << 60, nil, "up to"},
		"small":      {1 << 20, nil, "is not in the machine's RAM"},
		"other kind": {1 << 30, func(s []fw.TDSection) []fw.TDSection { s[2].Type = fw.TDPayload; return s }, "PAYLOAD section"},
		"no hob":     {1 << 30, func(s []fw.TDSection) []fw.TDSection { return s[:4] }, "no TD_HOB section"},
		"two hobs":   {1 << 30, func(s []fw.TDSection) []fw.TDSection { s[5].Type = fw.TDHandOff; return s }, "two TD_HOB sections"},
	} {
		s := sections(t)
		if c.change != nil {
			s = c.change(s)
		}
		if b, err := tdHOB(s, c.memory); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v; want an error with %q", name, len(b), err, c.want)
		}
	}
}

// TestAccept: a section takes its part out of the one range of RAM that it lies in whole, and RAM is taken once.
func TestAccept(t *testing.T) {
	const low, high = 0x8000, fourGiB
	ram := []ramRange{{0, low, false}, {high, 0x10000, false}}
	for _, c := range []struct {
		gpa, size uint64
		want      []ramRange // what takes the place of the range; nil: refused
		at        int
	}{
		{0, low, []ramRange{{0, low, true}}, 0},
		{0, 0x1000, []ramRange{{0, 0x1000, true}, {0x1000, low - 0x1000, false}}, 0},
		{low - 0x1000, 0x1000, []ramRange{{0, low - 0x1000, false}, {low - 0x1000, 0x1000, true}}, 0},
		{high + 0x2000, 0x3000, []ramRange{{high, 0x2000, false}, {high + 0x2000, 0x3000, true}, {high + 0x5000, 0xb000, false}}, 1},
		{high, 0x10000, []ramRange{{high, 0x10000, true}}, 1},
		{low - 0x1000, 0x2000, nil, 0},
		{low, 0x1000, nil, 0},
		{high - 0x1000, 0x2000, nil, 0},
		{high + 0xf000, 0x2000, nil, 0},
	} {
		got, err := accept(slices.Clone(ram), fw.TDSection{GPA: c.gpa, Size: c.size})
		want := slices.Replace(slices.Clone(ram), c.at, c.at+1, c.want...)
		if (err == nil) != (c.want != nil) || err == nil && !slices.Equal(got, want) {
			t.Errorf("%#x at %#x: %+v, %v; want %+v", c.size, c.gpa, got, err, want)
		}
		if err != nil {
			continue
		}
		if again, err := accept(got, fw.TDSection{GPA: c.gpa, Size: 0x1000}); err == nil {
			t.Errorf("%#x at %#x twice: %+v", c.size, c.gpa, again)
		}
		if same, err := accept(slices.Clone(got), fw.TDSection{GPA: c.gpa + 0x1000}); err != nil || !slices.Equal(same, got) {
			t.Errorf("a section of nothing: %+v, %v", same, err)
		}
	}
}

// TestMostMemory: the largest machine is computed, and one of a MiB more is not.
func TestMostMemory(t *testing.T) {
	for memory, good := range map[uint64]bool{maxMemory: true, maxMemory + memoryUnit: false, 1 << 30: true} {
		if _, err := tdHOB(sections(t), memory); (err == nil) != good {
			t.Errorf("%#x bytes: %v", memory, err)
		}
	}
}
