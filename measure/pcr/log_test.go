package pcr

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"tally/measure/eventlog"
)

// realLog reads the events of one of the boots of vtpm-uki-debian.json, by the stub's release.
func realLog(t *testing.T, stub int) *eventlog.Log {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors/vtpm-uki-debian.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Boots []map[string]json.RawMessage
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	var events [][]any
	if err := json.Unmarshal(v.Boots[map[int]int{257: 0, 262: 1}[stub]]["events[pcr,type,sha256,sha384,data_hex(<=400)]"], &events); err != nil {
		t.Fatal(err)
	}
	l := &eventlog.Log{Algorithms: []eventlog.Algorithm{eventlog.SHA256}}
	for _, e := range events {
		d, err := hex.DecodeString(e[2].(string))
		if err != nil {
			t.Fatal(err)
		}
		var typ uint32
		switch n := e[1].(type) {
		case float64:
			typ = uint32(n)
		case string:
			b, err := hex.DecodeString(pad8(n))
			if err != nil {
				t.Fatal(err)
			}
			typ = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		}
		data, err := hex.DecodeString(e[4].(string))
		if err != nil {
			t.Fatal(err)
		}
		l.Events = append(l.Events, eventlog.Logged{Index: uint32(e[0].(float64)), Type: eventlog.Type(typ), Digests: map[eventlog.Algorithm]eventlog.Digest{eventlog.SHA256: d}, Data: data})
	}
	return l
}

// pad8 turns 0x8 into 00000008.
func pad8(s string) string {
	s = s[2:]
	return "00000000"[:8-len(s)] + s
}

// TestEventsOfRealBoots lays predictions for a UKI of the same shape beside the logs of two real boots:
// they part at what the UKI's own bytes enter, at the right place, and nowhere else.
func TestEventsOfRealBoots(t *testing.T) {
	for stub, want := range map[int][]string{257: {"pcr4 3 UKI (Authenticode)", "pcr11 2 .linux (content)", "pcr9 1 load options"}, 262: {"pcr4 3 UKI (Authenticode)", "pcr11 2 .linux (content)", "pcr9 1 load options"}} {
		r, err := Boot(Input{UKI: fakeUKI(map[int]string{257: "257.13-1", 262: "262.1"}[stub], nil), SecureBoot: SecureBootEmpty}, SHA256)
		if err != nil {
			t.Fatal(err)
		}
		l := realLog(t, stub)
		diffs, err := l.Compare(eventlog.SHA256, r.Registers(), r.Events)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range diffs {
			got = append(got, d.Register+" "+string(rune('0'+d.Position))+" "+d.Predicted)
		}
		if !slices.Equal(got, want) {
			t.Errorf("stub %d: %v, want %v", stub, got, want)
		}
		// As many events a register as the machine logged: the stub's rule holds.
		for _, reg := range []string{"pcr4", "pcr7", "pcr9", "pcr11"} {
			n, m := 0, 0
			for _, e := range r.Events {
				if e.Register == reg {
					n++
				}
			}
			for _, e := range l.Events {
				if eventlog.PCR(int(e.Index)) == reg {
					m++
				}
			}
			if n != m {
				t.Errorf("stub %d: %d events of %s predicted, %d logged", stub, n, reg, m)
			}
		}
	}
}

// TestWrongStubIsNamed predicts for the wrong release of the stub.
func TestWrongStubIsNamed(t *testing.T) {
	l := realLog(t, 262)
	for i, e := range l.Events { // what the UKI's bytes enter is taken as right
		if e.Index == 4 && e.Type == 0x80000003 {
			l.Events[i].Digests[eventlog.SHA256] = eventlog.Digest{4}
		}
	}
	r, err := Boot(Input{UKI: fakeUKI("257", nil)}, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range r.Events {
		if e.What == "UKI (Authenticode)" {
			r.Events[i].Digest = eventlog.Digest{4}
		}
	}
	diffs, err := l.Compare(eventlog.SHA256, []string{"pcr4"}, r.Events)
	if err != nil || len(diffs) != 1 || diffs[0].Predicted != ".linux (Authenticode)" || diffs[0].Kind != eventlog.Missing || diffs[0].Cause != "the stub started the kernel without measuring it: systemd's stub from 258 on" {
		t.Errorf("%+v, %v; want the inner kernel, with its cause", diffs, err)
	}
}

// TestPlantedDifferences makes logs of other UKIs and wants the first event of each register that differs.
func TestPlantedDifferences(t *testing.T) {
	base := Input{UKI: fakeUKI("257", nil), Disk: bytes.NewReader(vectorDisk(t)), SecureBoot: SecureBootEmpty}
	want, err := Boot(base, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	disk := vectorDisk(t)
	disk[1024+16] ^= 1 // of the first partition's GUID
	sealGPT(disk)
	uki := func(section string) Input {
		return Input{UKI: fakeUKI("257", map[string][]byte{section: []byte("other")}), Disk: base.Disk, SecureBoot: SecureBootEmpty}
	}
	for name, c := range map[string]struct {
		in   Input
		pcr  string // the register to look at
		what string
		says string
	}{
		"command line": {uki(".cmdline"), "pcr11", ".cmdline (content)", "the UKI's command line is another"},
		"initrd":       {uki(".initrd"), "pcr11", ".initrd (content)", "the UKI's initrd is another"},
		"partition":    {Input{UKI: base.UKI, Disk: bytes.NewReader(disk), SecureBoot: SecureBootEmpty}, "pcr5", "GPT", "the partition table is another"},
		"old firmware": {Input{UKI: base.UKI, Disk: base.Disk, SecureBoot: SecureBootZero}, "pcr7", "variable SecureBoot", "the firmware writes Secure Boot off as a zero byte"},
		"old stub":     {Input{UKI: fakeUKI("256", nil), Disk: base.Disk, SecureBoot: SecureBootEmpty}, "pcr9", "initrd", "systemd's stub before 257 built the initrd"},
		"a phase":      {Input{UKI: base.UKI, Disk: base.Disk, SecureBoot: SecureBootEmpty, Phases: []string{"enter-initrd"}}, "pcr11", "", "systemd in the initrd measured a boot phase"},
	} {
		got, err := Boot(c.in, SHA256)
		if err != nil {
			t.Fatal(err)
		}
		diffs, err := logOf(got).Compare(eventlog.SHA256, want.Registers(), want.Events)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(diffs, func(d eventlog.Difference) bool { return d.Register == c.pcr })
		if i < 0 || diffs[i].Predicted != c.what || len(diffs[i].Cause) < len(c.says) || diffs[i].Cause[:len(c.says)] != c.says {
			t.Errorf("%s: %+v, want %s at %s: %s", name, diffs, c.pcr, c.what, c.says)
		}
	}
}

// logOf is the log a machine that measures r would have.
func logOf(r *Result) *eventlog.Log {
	l := &eventlog.Log{Algorithms: []eventlog.Algorithm{eventlog.SHA256}}
	for _, e := range r.Events {
		for n := range uint32(24) {
			if eventlog.PCR(int(n)) == e.Register {
				text := e.What
				if after, ok := bytes.CutPrefix([]byte(text), []byte("phase ")); ok {
					text = string(after)
				}
				l.Events = append(l.Events, eventlog.Logged{Index: n, Type: 0xd, Digests: map[eventlog.Algorithm]eventlog.Digest{eventlog.SHA256: e.Digest}, Data: []byte(text)})
			}
		}
	}
	return l
}
