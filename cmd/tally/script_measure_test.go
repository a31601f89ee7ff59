package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"tally/internal/petest"
	"tally/measure/eventlog"
	"tally/measure/pcr"
)

// mkukiCmd is `mkuki FILE STUB CMDLINE INITRD`: a UKI in form, whose stub says it is of a release.
func mkukiCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: mkuki file stub cmdline initrd")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), petest.UKI(args[1], args[2], "kernel", args[3]), 0o600))
}

// mktcgCmd is `mktcg UKI LOG`: the crypto-agile event log (SHA-256) of a machine that boots the UKI.
func mktcgCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mktcg uki log")
	}
	r, err := pcr.Boot(pcr.Input{UKI: []byte(ts.ReadFile(args[0])), SecureBoot: pcr.SecureBootEmpty}, pcr.SHA256)
	ts.Check(err)
	le := binary.LittleEndian
	var b bytes.Buffer
	put := func(v any) { ts.Check(binary.Write(&b, le, v)) }
	put([]uint32{0, uint32(eventlog.NoAction)})
	b.Write(make([]byte, 20))
	put(uint32(16 + 8 + 4 + 4 + 1))
	b.WriteString("Spec ID Event03\x00")
	put([]uint32{0, 0x02000200, 1})
	put([]uint16{uint16(eventlog.SHA256), 32})
	b.WriteByte(0)
	for _, e := range r.Events {
		n, err := strconv.Atoi(strings.TrimPrefix(e.Register, "pcr"))
		ts.Check(err)
		put([]uint32{uint32(n), 0xd, 1})
		put(uint16(eventlog.SHA256))
		b.Write(e.Digest)
		put(uint32(len(e.What)))
		b.WriteString(e.What)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o600))
}

// editCmd is `edit FILE OLD NEW TO`: a copy of the file with the first OLD replaced.
func editCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: edit file old new to")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s: no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(strings.Replace(text, args[1], args[2], 1)), 0o600))
}

// digestCmd is `digest FILE`: sets $DIGEST to the digest in a --json answer of measure snp.
func digestCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: digest file")
	}
	var a launchAnswer
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &a))
	ts.Setenv("DIGEST", a.Digest.String())
}

// mkquoteCmd is `mkquote JSON FILE`: a TDX quote whose registers are the first of each in an answer of
// `tally measure tdx --json`; those that are missing are zero. Nobody signed it.
func mkquoteCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mkquote json file")
	}
	var a struct {
		Registers []struct {
			Register string
			Digest   eventlog.Digest
		}
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &a))
	b := make([]byte, 48+584)
	copy(b, []byte{4, 0, 2, 0, 0x81})
	offsets := map[string]int{"mrtd": 48 + 136, "rtmr0": 48 + 328, "rtmr1": 48 + 376, "rtmr2": 48 + 424, "rtmr3": 48 + 472}
	for _, r := range a.Registers {
		if off, ok := offsets[r.Register]; ok {
			copy(b[off:], r.Digest)
			delete(offsets, r.Register)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
}
