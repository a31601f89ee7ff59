package amd_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"tally/enclave/appraise/amd"
)

// TestNext: what Next says of a report is what Verify says of it, and of other hardware or another guest it says
// nothing.
func TestNext(t *testing.T) {
	for _, vlek := range []bool{false, true} {
		m := machine(t)
		m.VLEK = vlek
		report, certs := sign(t, m)
		first, err := amd.Verify(report, certs, m.Roots(), now)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := m.Report([64]byte{7, 8})
		if err != nil {
			t.Fatal(err)
		}
		want, err := amd.Verify(raw, certs, m.Roots(), now)
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := first.Next(raw)
		if !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
		// Every byte counts: it is either refused, or left to Verify, which refuses it.
		for i := range raw {
			b := bytes.Clone(raw)
			b[i] ^= 1 << (i % 8)
			r, ok, err := first.Next(b)
			about := i >= 0x50 && i < 0x90 || i >= 0x2a0
			if r != nil || ok != about || ok && err == nil {
				t.Errorf("byte %#x: %v, %v", i, ok, err)
			}
		}
		for _, b := range [][]byte{nil, raw[:len(raw)-1], append(bytes.Clone(raw), 0)} {
			if r, ok, _ := first.Next(b); r != nil || ok {
				t.Errorf("%d bytes: taken", len(b))
			}
		}
		// The signature of one report does not stand under another.
		moved := append(bytes.Clone(raw[:0x2a0]), report[0x2a0:]...)
		if r, ok, err := first.Next(moved); r != nil || !ok || err == nil {
			t.Errorf("a moved signature: %v, %v", ok, err)
		}
		// The same machine after an update is Verify's to judge.
		m.Fields.ReportedTCB++
		if raw, err = m.Report([64]byte{7, 8}); err != nil {
			t.Fatal(err)
		}
		if r, ok, _ := first.Next(raw); r != nil || ok {
			t.Error("another TCB: taken")
		}
	}
}
