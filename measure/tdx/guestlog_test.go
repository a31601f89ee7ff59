package tdx

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"tally/internal/petest"
	"tally/measure/eventlog"
)

// guestLog is the event log of a TDX guest on Google Compute Engine, whose quote has the registers that it
// gives (package eventlog tests that).
func guestLog(t *testing.T) *eventlog.Log {
	t.Helper()
	f, err := os.Open("../eventlog/testdata/vectors/cos-113-intel-tdx.bin.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// logged returns the events of one RTMR.
func logged(l *eventlog.Log, rtmr uint32) (events []eventlog.Logged) {
	for _, e := range l.Events {
		if e.Index == rtmr+1 && e.Type != eventlog.NoAction {
			events = append(events, e)
		}
	}
	return events
}

// TestGuestLogRTMR0 holds the order of RTMR0 and what does not depend on the guest's own keys and disks
// against hardware.
func TestGuestLogRTMR0(t *testing.T) {
	real := logged(guestLog(t), 0)
	got := one(t, compute(t, Input{Firmware: ovmf(t)}, "gce/c3-standard-4/before-2026-03"), "rtmr0").Events
	at := map[string]int{"TD HOB": 0, "variable SecureBoot": 2, "separator": 7, "ACPI table-loader": 8, "ACPI rsdp": 9, "ACPI tables": 10, "Boot0001": 12, "Boot0000 (UiApp)": 13}
	for i, e := range got {
		want, ok := at[e.What]
		if !ok {
			continue
		}
		delete(at, e.What)
		if want != i && e.What != "Boot0000 (UiApp)" { // this guest had no second disk
			t.Errorf("%s is event %d, logged %d", e.What, i, want)
		}
		if w := real[want].Digests[eventlog.SHA384]; e.Digest.String() != w.String() {
			t.Errorf("%s: %s, logged %s", e.What, e.Digest, w)
		}
	}
	if len(at) != 0 {
		t.Errorf("not computed: %v", at)
	}
}

// TestGuestLogVariables measures the guest's own keys again from the values that its log holds.
func TestGuestLogVariables(t *testing.T) {
	le := binary.LittleEndian
	real := logged(guestLog(t), 0)
	s := new(store)
	for i, to := range []*[]byte{&s.pk, &s.kek, &s.db, &s.dbx} {
		data := real[3+i].Data // GUID, u64 characters of the name, u64 bytes of data, name, data
		*to = data[32+2*le.Uint64(data[16:]):]
	}
	for i, e := range s.policy(modeOff) {
		if w := real[2+i].Digests[eventlog.SHA384]; e.Digest.String() != w.String() {
			t.Errorf("%s: %s, logged %s", e.What, e.Digest, w)
		}
	}
}

// TestGuestLogRTMR1 holds a start from a disk, GPT and all, against hardware: of the image's own events only
// the place is known.
func TestGuestLogRTMR1(t *testing.T) {
	real := logged(guestLog(t), 1)
	gpt := slices.IndexFunc(real, func(e eventlog.Logged) bool { return e.Type.String() == "EV_EFI_GPT_EVENT" })
	if gpt != 2 {
		t.Fatalf("GPT is event %d", gpt)
	}
	in := Input{Firmware: ovmf(t), UKI: petest.UKI("257", "quiet", string(petest.Image(".text", "kernel")), "initrd"), Disk: bytes.NewReader(diskOf(real[gpt].Data))}
	got := one(t, compute(t, in, "gce/c3-standard-4/before-2026-03"), "rtmr1").Events
	if len(got) != len(real) {
		t.Fatalf("%d events, logged %d", len(got), len(real))
	}
	for i, e := range got {
		if strings.Contains(e.What, "Authenticode") {
			if real[i].Type.String() != "EV_EFI_BOOT_SERVICES_APPLICATION" {
				t.Errorf("event %d: %s, logged %s", i, e.What, real[i])
			}
			continue
		}
		if w := real[i].Digests[eventlog.SHA384]; e.Digest.String() != w.String() {
			t.Errorf("event %d: %s: %s, logged %s", i, e.What, e.Digest, w)
		}
	}
}

// diskOf is a disk with the partition table of an event: header, u64 number of entries, the entries in use, which are
// this machine's first ones: the header's checksum is of that.
func diskOf(event []byte) []byte {
	const sector, header = 512, 92
	le := binary.LittleEndian
	disk := make([]byte, 64<<10)
	copy(disk[sector:], event[:header])
	copy(disk[le.Uint64(event[72:])*sector:], event[header+8:])
	return disk
}
