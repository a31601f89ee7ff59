package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// A Kind says how a log parts from the prediction.
type Kind string

// The kinds.
const (
	Changed Kind = "changed" // another digest in this place
	Missing Kind = "missing" // predicted, and the log goes on without it
	Extra   Kind = "extra"   // in the log, not predicted; the predicted one follows it
)

// A Difference is the first event of a register at which log and prediction part.
type Difference struct {
	Register  string `json:"register"`
	Position  int    `json:"position"` // among the events of the register, from 1
	Kind      Kind   `json:"kind"`
	Predicted string `json:"predicted,omitempty"` // what was predicted there; absent when the prediction ended
	Want      Digest `json:"predicted_digest,omitempty"`
	Logged    string `json:"logged,omitempty"` // type and text of the logged event; absent when the log ended
	Got       Digest `json:"logged_digest,omitempty"`
	Event     int    `json:"event,omitempty"` // number of the logged event in the log, from 1 (the header is not counted)
	Cause     string `json:"cause"`           // the likely cause, or that none is known
}

// IsCC says whether the log is that of a TDX guest: SHA-384 alone, registers 1 to 4 at most.
func (l *Log) IsCC() bool {
	if len(l.Algorithms) != 1 || l.Algorithms[0] != SHA384 {
		return false
	}
	for _, e := range l.Events {
		if e.Index > 4 {
			return false
		}
	}
	return true
}

// register names what an event extends.
func (l *Log) register(e Logged, cc bool) string {
	switch {
	case !cc:
		return PCR(int(e.Index))
	case e.Index == 0:
		return "mrtd"
	}
	return RTMR(int(e.Index) - 1)
}

// Compare aligns the events of the registers named with those of a log and returns one difference for each
// register that differs, in the order in which the log meets them: the first is the first divergent event.
func (l *Log) Compare(a Algorithm, registers []string, predicted []Event) ([]Difference, error) {
	if !slices.Contains(l.Algorithms, a) {
		return nil, fmt.Errorf("event log: no digests of %s, it has %v", a, l.Algorithms)
	}
	cc := l.IsCC()
	logged, number := map[string][]Logged{}, map[string][]int{}
	for i, e := range l.Events {
		if e.Type != NoAction {
			r := l.register(e, cc)
			logged[r], number[r] = append(logged[r], e), append(number[r], i+1)
		}
	}
	var all []Difference
	for _, r := range registers {
		var mine []Event
		for _, e := range predicted {
			if e.Register == r {
				mine = append(mine, e)
			}
		}
		if d := first(a, mine, logged[r]); d != nil {
			d.Register = r
			if d.Logged != "" {
				d.Event = number[r][d.Position-1]
			}
			all = append(all, *d)
		}
	}
	slices.SortStableFunc(all, func(x, y Difference) int { return position(x, len(l.Events)) - position(y, len(l.Events)) })
	return all, nil
}

func position(d Difference, end int) int {
	if d.Event == 0 {
		return end + 1
	}
	return d.Event
}

// first finds where the events of one register part.
func first(a Algorithm, want []Event, got []Logged) *Difference {
	for i := 0; i < len(want) || i < len(got); i++ {
		d := &Difference{Position: i + 1, Kind: Changed}
		if i < len(want) {
			d.Predicted, d.Want = want[i].What, want[i].Digest
		}
		if i < len(got) {
			d.Logged, d.Got = got[i].String(), got[i].Digests[a]
		}
		switch {
		case i >= len(want):
			d.Kind = Extra
		case i >= len(got):
			d.Kind = Missing
		case bytes.Equal(d.Want, d.Got):
			continue
		case i+1 < len(got) && bytes.Equal(d.Want, got[i+1].Digests[a]):
			d.Kind = Extra
		case i+1 < len(want) && bytes.Equal(want[i+1].Digest, d.Got):
			d.Kind = Missing
		}
		d.Cause = cause(d, want, got)
		return d
	}
	return nil
}

// String is the type of an event and what of its data is text.
func (e Logged) String() string {
	if t := e.text(); t != "" {
		return fmt.Sprintf("%s %.80q", e.Type, t)
	}
	return e.Type.String()
}

// text finds the text in an event's data: as it is, in UTF-16, as a variable's name or behind a tag.
func (e Logged) text() string {
	for _, s := range []string{variable(e), tag(e), strings.TrimRight(string(e.Data), "\x00"), wide(e.Data)} {
		if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			return s
		}
	}
	return ""
}

// variable is the name in a UEFI_VARIABLE_DATA: GUID, u64 characters of the name, u64 bytes of data, name, data.
func variable(e Logged) string {
	if !slices.Contains([]Type{0x80000001, 0x80000002, 0x8000000c, 0x800000e0}, e.Type) || len(e.Data) < 32 {
		return ""
	}
	n := binary.LittleEndian.Uint64(e.Data[16:])
	if n > uint64(len(e.Data)-32)/2 {
		return ""
	}
	return wide(e.Data[32 : 32+2*n])
}

// tag is the text of an EV_EVENT_TAG: u32 tag, u32 size, data.
func tag(e Logged) string {
	if e.Type != 6 || len(e.Data) < 8 {
		return ""
	}
	s := strings.TrimRight(string(e.Data[8:]), "\x00")
	if strings.Contains(s, "\x00") {
		return wide(e.Data[8:])
	}
	return s
}

func wide(b []byte) string {
	var u []uint16
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, uint16(b[0])|uint16(b[1])<<8)
	}
	return strings.TrimRight(string(utf16.Decode(u)), "\x00")
}
