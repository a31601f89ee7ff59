package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"tally/measure/eventlog"
	"tally/measure/pcr"
)

// mkukiCmd is `mkuki FILE STUB CMDLINE INITRD`: a UKI in form, whose stub says it is of a release.
func mkukiCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: mkuki file stub cmdline initrd")
	}
	kernel := smallPE(".text", "kernel")
	uki := smallPE(".sdmagic", "#### LoaderInfo: systemd-stub "+args[1]+" ####\x00", ".osrel", "ID=x\n", ".cmdline", args[2], ".linux", string(kernel), ".initrd", args[3])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), uki, 0o600))
}

// smallPE is a PE32+ image of sections, given as name and content in turn.
func smallPE(parts ...string) []byte {
	le := binary.LittleEndian
	const opt, headers = 0x80 + 24, 0x400
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	copy(b[0x80:], "PE\x00\x00")
	le.PutUint16(b[0x84:], 0x8664)
	le.PutUint16(b[0x86:], uint16(len(parts)/2))
	le.PutUint16(b[0x94:], 240)
	le.PutUint16(b[opt:], 0x20b)
	le.PutUint32(b[opt+60:], headers)
	le.PutUint32(b[opt+108:], 16)
	for i := 0; i < len(parts); i += 2 {
		h, data := b[opt+240+i/2*40:], parts[i+1]
		copy(h, parts[i])
		raw := (len(data) + 511) &^ 511
		le.PutUint32(h[8:], uint32(len(data)))
		le.PutUint32(h[16:], uint32(raw))
		le.PutUint32(h[20:], uint32(len(b)))
		b = append(append(b, data...), make([]byte, raw-len(data))...)
	}
	return b
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
