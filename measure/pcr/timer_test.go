package pcr

import (
	"bytes"
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/measure/eventlog"
	"tally/measure/internal/ffs"
)

// logged are the digests that a real boot's log has for PCR 0 in a bank.
func logged(t *testing.T, name string, bank Bank) (all []Value) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log.Events {
		if e.Index == 0 {
			all = append(all, e.Digests[bank.Algorithm()])
		}
	}
	return all
}

// TestFirmwareThatKeepsTheTimer: of 2025.02 the PEI volume in the file is not what real boots' logs have, and with
// the port of the machine's ACPI timer in it, it is. q35 stands there with one CPU and two, with QEMU 7.2 and 10.0; the
// other type has another port.
func TestFirmwareThatKeepsTheTimer(t *testing.T) {
	image := firmware(t, ovmf2025)
	plain, err := ffs.ReadVolumes(image)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for name, m := range map[string]Machine{"uki-q72-trixiefw": Q35, "uki-q72-smp2": Q35, "direct-q72-trixiefw": Q35, "direct-q10-trixiefw": Q35, "uki-q72-pc": PC} {
		for _, bank := range []Bank{SHA1, SHA256, SHA384, SHA512} {
			want := logged(t, "../eventlog/testdata/vectors/"+name+".eventlog.bin", bank)
			if len(want) != 4 || want[0] == nil {
				continue // a bank that this TPM had not
			}
			seen++
			f, err := ReadFirmware(image, bank)
			if err != nil || f.Reason() != "" || !f.NeedsMachine() {
				t.Fatalf("%+v, %v", f, err)
			}
			events, err := f.Events(bank, m)
			if err != nil || len(events) != 4 {
				t.Fatalf("%d events, %v", len(events), err)
			}
			for i, e := range events {
				if !bytes.Equal(e.Digest, want[i]) {
					t.Errorf("%s: %s of %s: %s, the log has %s", name, e.What, bank, e.Digest, want[i])
				}
			}
			if l := (&eventLog{bank: bank}); bytes.Equal(l.digest(plain.PEI), want[1]) {
				t.Errorf("%s: the PEI volume is as in the file: the rule is wrong", name)
			}
		}
	}
	if seen < 5*3 {
		t.Errorf("%d banks of logs, want three of each", seen)
	}
}

// TestMachineIsWanted where PCR 0 depends on it: without, there is no value, but what is known of it.
func TestMachineIsWanted(t *testing.T) {
	in := Input{UKI: fakeUKI("257", nil), Firmware: firmware(t, ovmf2025)}
	r, err := Boot(in, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.PCRs[0]; ok || slices.ContainsFunc(r.Events, func(e Event) bool { return e.Register == "pcr0" }) {
		t.Error("PCR 0 has a value or events")
	}
	u := r.Undecided[0]
	if u.Register != "pcr0" || !strings.Contains(u.Reason, `release "2025.02-8+deb13u1" has stored the port of the ACPI timer`) || len(u.Events) != 3 {
		t.Fatalf("%+v", u)
	}
	want := logged(t, "../eventlog/testdata/vectors/uki-q72-trixiefw.eventlog.bin", SHA256)
	for i, at := range []int{0, 2, 3} {
		if !bytes.Equal(u.Events[i].Digest, want[at]) {
			t.Errorf("%s: %s, the log has %s", u.Events[i].What, u.Events[i].Digest, want[at])
		}
	}
	in.Machine = Q35
	if r, err = Boot(in, SHA256); err != nil {
		t.Fatal(err)
	}
	pcr0 := make(Value, 32)
	for _, d := range want {
		pcr0 = eventlog.Extend(eventlog.SHA256, pcr0, d)
	}
	if r.PCRs[0].String() != pcr0.String() || len(r.Undecided) != 2 {
		t.Errorf("PCR 0 %s, the log gives %s; undecided %+v", r.PCRs[0], pcr0, r.Undecided)
	}
	if _, err := ParseMachine("microvm"); err == nil || !strings.Contains(err.Error(), "want one of [pc q35]") {
		t.Errorf("microvm: %v", err)
	}
}

// TestTimerVariable finds the place in code that stores to it and loads from it, and only there.
func TestTimerVariable(t *testing.T) {
	code := []byte{
		0x90, 0x83, 0xc3, 0x08, 0x89, 0x1d, 0x0b, 0, 0, 0, // add ebx, 8; mov [rip+11], ebx: byte 21
		0x8b, 0x0d, 0x05, 0, 0, 0, // mov ecx, [rip+5]: byte 21
		0xc3, 0xc3, 0xc3, 0xc3, 0xc3, 0, 0, 0, 0, // from byte 16 on; the variable at 21
	}
	with := func(change func(b []byte)) int {
		b := slices.Clone(code)
		change(b)
		pei := append(make([]byte, 7), b...)
		return timerVariable(&ffs.Volumes{PEI: pei, Core: ffs.Range{From: 7, To: len(pei)}})
	}
	for name, c := range map[string]struct {
		change func([]byte)
		want   int
	}{
		"as it is":         {func([]byte) {}, 28},
		"another register": {func(b []byte) { b[2], b[5] = 0xc0, 0x05 }, 28},
		"two registers":    {func(b []byte) { b[2] = 0xc0 }, -1},
		"another sum":      {func(b []byte) { b[3] = 4 }, -1},
		"not zero":         {func(b []byte) { b[21] = 1 }, -1},
		"nobody reads it":  {func(b []byte) { b[10] = 0x8d }, -1},
		"outside":          {func(b []byte) { b[6] = 0x0c }, -1},
		"far outside":      {func(b []byte) { b[9] = 0x80 }, -1},
	} {
		if got := with(c.change); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	twice := append(slices.Clone(code), code...)
	if got := timerVariable(&ffs.Volumes{PEI: twice, Core: ffs.Range{To: len(twice)}}); got != -1 {
		t.Errorf("twice: %d", got)
	}
	again := slices.Concat([]byte{0x83, 0xc3, 0x08, 0x89, 0x1d, 0x15, 0, 0, 0}, code) // stores to byte 30, too
	if got := timerVariable(&ffs.Volumes{PEI: again, Core: ffs.Range{To: len(again)}}); got != -1 {
		t.Errorf("stored to twice: %d", got)
	}
	again[5]++ // to a place that nobody reads
	if got := timerVariable(&ffs.Volumes{PEI: again, Core: ffs.Range{To: len(again)}}); got != 30 {
		t.Errorf("stored to elsewhere: %d", got)
	}
	if got := timerVariable(&ffs.Volumes{}); got != -1 {
		t.Errorf("nothing: %d", got)
	}
}

// TestManyStores: code made of stores is passed over once, not once for each: that would be a hundred billion bytes.
func TestManyStores(t *testing.T) {
	const stores, size = 100_000, 9
	code := make([]byte, stores*size+4*stores)
	for i := range stores {
		copy(code[i*size:], []byte{0x83, 0xc3, 0x08, 0x89, 0x1d})
		binary.LittleEndian.PutUint32(code[i*size+5:], uint32(stores*size+4*i-(i+1)*size))
	}
	start := time.Now()
	if got := timerVariable(&ffs.Volumes{PEI: code, Core: ffs.Range{To: len(code)}}); got != -1 {
		t.Errorf("%d", got)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
}
