package eventlog

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t testing.TB, name string) *Log {
	t.Helper()
	l, err := Parse(read(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReplayIsTheTPM compares the registers that a log replays to with those the guest read from its TPM.
func TestReplayIsTheTPM(t *testing.T) {
	for boot, read256 := range map[string]bool{"uki-q72-trixiefw": false, "uki-q72-smp2": false, "direct-q10-trixiefw": false, "direct-q72-trixiefw": false, "uki-q72-pc": true} {
		l := parse(t, boot+".eventlog.bin")
		var banks map[string]map[string]string
		if err := json.Unmarshal(read(t, boot+".pcrs.json"), &banks); err != nil {
			t.Fatal(err)
		}
		want := map[bool]int{false: 4, true: 1}[read256]
		if len(l.Algorithms) != 4 || len(banks) != want {
			t.Fatalf("%s: %d banks in the log, %d in the TPM, want 4 and %d", boot, len(l.Algorithms), len(banks), want)
		}
		for _, a := range l.Algorithms {
			if read256 && a != SHA256 {
				continue // the guest printed this bank alone
			}
			regs, err := l.Replay(a)
			if err != nil {
				t.Fatal(err)
			}
			for n := range 16 {
				if n == 10 {
					continue // IMA's events are not in the firmware's log
				}
				got := regs[uint32(n)]
				if got == nil {
					got = make(Digest, a.New().Size())
				}
				if want := banks[a.String()][strconv.Itoa(n)]; got.String() != want {
					t.Errorf("%s: %s PCR %d: %s, the TPM held %s", boot, a, n, got, want)
				}
			}
		}
	}
}

// TestReplayIsTheTD compares with the RTMRs of a real TDX guest.
func TestReplayIsTheTD(t *testing.T) {
	l := parse(t, "cos-113-intel-tdx.bin.gz")
	if !l.IsCC() || len(l.Events) < 20 {
		t.Fatalf("cc %v, %d events", l.IsCC(), len(l.Events))
	}
	regs, err := l.Replay(SHA384)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"3fa2f61f395b7f5feefb4ec2df61297f109ad8abcd6410c1b7df60f21f37b19297fc35e544039c7e1edece752afd17f6",
		"f62dbc072bd5d3f3438b7b35c39a727f5aea2ffc2473f43723953f530daf62504f0a7944aa62c41a86e8a878c2b122c1",
		"4969684dc87381fc3b3134176c8d8806eaf0a901859f5f70cfae8d17714b46c10a8de219048c9fc09f11f381a6fbe7c1",
	} {
		if got := regs[uint32(i+1)].String(); got != want {
			t.Errorf("RTMR%d: %s, the hardware says %s", i, got, want)
		}
	}
	if _, err := l.Replay(SHA256); err == nil {
		t.Error("a bank that the log does not have: no error")
	}
}

func TestStartupLocality(t *testing.T) {
	l := parse(t, "uki-q72-trixiefw.eventlog.bin")
	plain, err := l.Replay(SHA256)
	if err != nil {
		t.Fatal(err)
	}
	l.Events = slices.Insert(l.Events, 0, Logged{Type: NoAction, Data: []byte("StartupLocality\x00\x03")})
	moved, err := l.Replay(SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if plain[0].String() == moved[0].String() || plain[4].String() != moved[4].String() {
		t.Error("the locality moves PCR 0 and nothing else")
	}
}

func TestParseRefusals(t *testing.T) {
	good := read(t, "uki-q72-trixiefw.eventlog.bin")
	le := binary.LittleEndian
	const algs = 32 + 28 // of the first algorithm in the header
	first := 32 + int(le.Uint32(good[28:]))
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":                  {func(b []byte) []byte { return nil }, "header: 32 bytes at byte 0, but 0 are left"},
		"text":                   {func(b []byte) []byte { return []byte(strings.Repeat("log ", 20)) }, "not a TCG log"},
		"sha-1 alone":            {func(b []byte) []byte { copy(b[32:], "Spec ID Event00"); return b }, "Spec ID Event03"},
		"long header":            {func(b []byte) []byte { le.PutUint32(b[28:], 1<<20); return b }, "at most 1024"},
		"no algorithm":           {func(b []byte) []byte { le.PutUint32(b[32+24:], 0); return b }, "0 algorithms"},
		"many algorithms":        {func(b []byte) []byte { le.PutUint32(b[32+24:], 1<<30); return b }, "algorithms, want 1 to 8"},
		"algorithm twice":        {func(b []byte) []byte { copy(b[algs+4:], b[algs:algs+4]); return b }, "twice"},
		"wrong digest size":      {func(b []byte) []byte { le.PutUint16(b[algs+2:], 21); return b }, "want 20"},
		"register":               {func(b []byte) []byte { le.PutUint32(b[first:], 24); return b }, "event 1 at byte"},
		"number of digests":      {func(b []byte) []byte { le.PutUint32(b[first+8:], 5); return b }, "5 digests, the header names 4"},
		"unknown algorithm":      {func(b []byte) []byte { le.PutUint16(b[first+12:], 0x12); return b }, "not named by the header"},
		"huge event":             {func(b []byte) []byte { le.PutUint32(b[first+12+22+34+50+66:], 1<<31); return b }, "bytes of data, want at most"},
		"large event":            {func(b []byte) []byte { le.PutUint32(b[first+12+22+34+50+66:], 1<<20); return b }, "but "},
		"cut":                    {func(b []byte) []byte { return b[:len(b)-1] }, "left"},
		"something behind":       {func(b []byte) []byte { return append(b, 0xff, 0xff, 0) }, "left"},
		"bytes that no text has": {func(b []byte) []byte { return append(b, 0xff, 0x80, 0xc1, 0xff) }, "left"},
		"too long":               {func(b []byte) []byte { return make([]byte, MaxSize+1) }, "want at most"},
		"events without end": {func(b []byte) []byte {
			return append(b[:first:first], bytes.Repeat(b[first:first+12+22+34+50+66+4+36], 20000)...)
		}, "more than 16384 events"},
	} {
		b := c.change(bytes.Clone(good))
		if l, err := Parse(b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, l, err, c.want)
		}
	}
}

// TestFillerOnce: the fixed area that ACPI names may be much larger than the log in it. It is looked through once: before each
// event that would be a trillion bytes here, for minutes.
func TestFillerOnce(t *testing.T) {
	const events = 16000
	good := read(t, "cos-113-intel-tdx.bin.gz")
	log := good[: 32+binary.LittleEndian.Uint32(good[28:]) : 32+binary.LittleEndian.Uint32(good[28:])]
	event := append([]byte{1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, byte(SHA384), 0}, make([]byte, 48+4)...)
	log = append(log, bytes.Repeat(event, events)...)
	log = append(log, make([]byte, MaxSize-len(log))...)
	start := time.Now()
	l, err := Parse(log)
	if err != nil || len(l.Events) != events {
		t.Fatalf("%v, want %d events", err, events)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(read(f, "uki-q72-trixiefw.eventlog.bin"))
	f.Add(read(f, "cos-113-intel-tdx.bin.gz")[:20000])
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		for _, a := range l.Algorithms {
			l.Replay(a)
			if _, err := l.Compare(a, []string{"pcr0", "pcr4", "rtmr0"}, []Event{{Register: "pcr4", What: "x", Digest: Digest{1}}}); err != nil {
				t.Error(err)
			}
		}
	})
}
