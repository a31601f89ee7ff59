package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"tally/internal/petest"
	"tally/measure/eventlog"
)

// mkkernelCmd is `mkkernel FILE`: a kernel in form, with a setup header of protocol 2.15.
func mkkernelCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkkernel file")
	}
	b := petest.Image(".text", "kernel")
	copy(b[0x202:], "HdrS")
	b[0x206], b[0x207] = 0x0f, 0x02
	b[0x211], b[0x236] = 1, 3
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// tdxVector reads a vector of package tdx.
func tdxVector(ts *testscript.TestScript, name string, v any) {
	data, err := os.ReadFile(filepath.Join(ts.Getenv("REPO"), "measure/tdx/testdata/vectors", name))
	ts.Check(err)
	ts.Check(json.Unmarshal(data, v))
}

// mkacpiCmd is `mkacpi FILE SMBIOS`: the ACPI tables of the published guest with 4 vCPUs and 2 GiB, and the
// SMBIOS table of another.
func mkacpiCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mkacpi file smbios")
	}
	var v struct {
		Fixtures []struct {
			ACPI string `json:"acpi_tables_gzip_base64"`
		}
	}
	tdxVector(ts, "tdx-rtmr0-fixtures.json", &v)
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(v.Fixtures[0].ACPI)))
	ts.Check(err)
	b, err := io.ReadAll(z)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
	var w struct{ Boots []struct{ SMBIOS string } }
	tdxVector(ts, "boots-without-tdx.json", &w)
	b, err = hex.DecodeString(w.Boots[2].SMBIOS)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o600))
}

// mkccelCmd is `mkccel JSON LOG`: the event log of a guest that measures what an answer of measure tdx says.
func mkccelCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mkccel json log")
	}
	var answer struct {
		Registers []struct {
			Register string
			Events   []struct{ What, Digest string }
		}
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &answer))
	le := binary.LittleEndian
	var b bytes.Buffer
	put := func(v any) { ts.Check(binary.Write(&b, le, v)) }
	put([]uint32{1, uint32(eventlog.NoAction)})
	b.Write(make([]byte, 20))
	put(uint32(16 + 8 + 4 + 4 + 1))
	b.WriteString("Spec ID Event03\x00")
	put([]uint32{0, 0x02000200, 1})
	put([]uint16{uint16(eventlog.SHA384), 48})
	b.WriteByte(0)
	for _, r := range answer.Registers {
		if r.Register == "mrtd" {
			continue
		}
		for _, e := range r.Events {
			put([]uint32{uint32(r.Register[4]-'0') + 1, 0xd, 1})
			put(uint16(eventlog.SHA384))
			d, err := hex.DecodeString(e.Digest)
			ts.Check(err)
			b.Write(d)
			put(uint32(len(e.What)))
			b.WriteString(e.What)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o600))
}
