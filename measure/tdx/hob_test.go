package tdx

import (
	"bytes"
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
