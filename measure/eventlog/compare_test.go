package eventlog

import (
	"bytes"
	"slices"
	"testing"
)

// predictionOf turns a log into what a right prediction of it would be.
func predictionOf(l *Log, a Algorithm) (events []Event, registers []string) {
	for _, e := range l.Events {
		if e.Type == NoAction {
			continue
		}
		r := l.register(e, l.IsCC())
		if !slices.Contains(registers, r) {
			registers = append(registers, r)
		}
		events = append(events, Event{Register: r, What: e.String(), Digest: e.Digests[a]})
	}
	return events, registers
}

func TestCompareEqual(t *testing.T) {
	for name, a := range map[string]Algorithm{"uki-q72-trixiefw.eventlog.bin": SHA256, "cos-113-intel-tdx.bin.gz": SHA384} {
		l := parse(t, name)
		events, registers := predictionOf(l, a)
		if d, err := l.Compare(a, registers, events); err != nil || len(d) != 0 {
			t.Errorf("%s: %+v, %v; want no difference", name, d, err)
		}
	}
	if _, err := parse(t, "cos-113-intel-tdx.bin.gz").Compare(SHA1, nil, nil); err == nil {
		t.Error("a bank that the log does not have: no error")
	}
}

// TestCompareNamesWhatWasPlanted takes a true prediction and plants one difference.
func TestCompareNamesWhatWasPlanted(t *testing.T) {
	l := parse(t, "uki-q72-trixiefw.eventlog.bin")
	find := func(events []Event, what string) int {
		i := slices.IndexFunc(events, func(e Event) bool { return e.What == what })
		if i < 0 {
			t.Fatalf("no event %q", what)
		}
		return i
	}
	for name, c := range map[string]struct {
		plant func([]Event) []Event
		want  Difference
	}{
		"changed": {func(e []Event) []Event {
			i := find(e, "EV_EFI_GPT_EVENT")
			e[i].What, e[i].Digest = "GPT", Digest{1}
			return e
		}, Difference{Register: "pcr5", Position: 2, Kind: Changed, Event: 30}},
		"extra in the log": {func(e []Event) []Event {
			return slices.Delete(e, find(e, `EV_IPL ".linux"`), find(e, `EV_IPL ".linux"`)+1)
		}, Difference{Register: "pcr11", Position: 1, Kind: Extra, Event: 32}},
		"missing in the log": {func(e []Event) []Event {
			return slices.Insert(e, find(e, "EV_EFI_BOOT_SERVICES_APPLICATION"), Event{Register: "pcr4", What: ".linux (Authenticode)", Digest: Digest{1}})
		}, Difference{Register: "pcr4", Position: 3, Kind: Missing, Event: 31}},
		"another rule": {func(e []Event) []Event {
			i := find(e, `EV_EVENT_TAG "Linux initrd"`)
			e[i].Others = []Other{{"the stub is another", bytes.Clone(e[i].Digest)}}
			e[i].Digest = Digest{1}
			return e
		}, Difference{Register: "pcr9", Position: 2, Kind: Changed, Event: 46, Cause: "the stub is another"}},
		"log ends": {func(e []Event) []Event {
			return append(e, Event{Register: "pcr11", What: "phase enter-initrd", Digest: Digest{1}})
		}, Difference{Register: "pcr11", Position: 13, Kind: Missing}},
		"log goes on": {func(e []Event) []Event { return e[:len(e)-1] }, Difference{Register: "pcr5", Position: 4, Kind: Extra, Event: 48}},
	} {
		events, registers := predictionOf(l, SHA256)
		got, err := l.Compare(SHA256, registers, c.plant(events))
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %+v, %v; want one difference", name, got, err)
			continue
		}
		g, w := got[0], c.want
		if g.Register != w.Register || g.Position != w.Position || g.Kind != w.Kind || g.Event != w.Event || w.Cause != "" && g.Cause != w.Cause || g.Cause == "" {
			t.Errorf("%s: %+v, want %+v", name, g, w)
		}
	}
}

// TestFirstDivergent wants the differences in the order of the log.
func TestFirstDivergent(t *testing.T) {
	l := parse(t, "uki-q72-trixiefw.eventlog.bin")
	events, registers := predictionOf(l, SHA256)
	for i := range events {
		if r := events[i].Register; r == "pcr9" || r == "pcr4" {
			events[i].Digest = Digest{1}
		}
	}
	got, err := l.Compare(SHA256, registers, events)
	if err != nil || len(got) != 2 || got[0].Register != "pcr4" || got[1].Register != "pcr9" {
		t.Errorf("%+v, %v; want pcr4, then pcr9", got, err)
	}
}

// TestCauseOfRealDifference puts the log of one QEMU beside that of another: the kernel was patched.
func TestCauseOfRealDifference(t *testing.T) {
	events, registers := predictionOf(parse(t, "direct-q10-trixiefw.eventlog.bin"), SHA256)
	for i, e := range events {
		if e.Register == "pcr4" && e.What == "EV_EFI_BOOT_SERVICES_APPLICATION" {
			events[i].What = "kernel (Authenticode)"
		}
	}
	got, err := parse(t, "direct-q72-trixiefw.eventlog.bin").Compare(SHA256, registers, events)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(got, func(d Difference) bool { return d.Register == "pcr4" })
	if i < 0 || got[i].Predicted != "kernel (Authenticode)" || got[i].Cause != causes[slices.IndexFunc(causes, func(k known) bool { return k.predicted == "kernel" })].cause {
		t.Errorf("%+v: want the kernel, patched", got)
	}
}

// TestText wants every kind of event named as the log's own text says.
func TestText(t *testing.T) {
	l := parse(t, "uki-q72-trixiefw.eventlog.bin")
	for i, want := range map[int]string{
		0: `EV_S_CRTM_VERSION "2025.02-8+deb13u1"`, 3: `EV_EFI_VARIABLE_DRIVER_CONFIG "SecureBoot"`, 9: `EV_PLATFORM_CONFIG_FLAGS "ACPI DATA"`, 13: `EV_EFI_VARIABLE_BOOT "BootOrder"`,
		21: `EV_EFI_ACTION "Calling EFI Application from Boot Option"`, 22: "EV_SEPARATOR", 29: "EV_EFI_GPT_EVENT", 31: `EV_IPL ".linux"`, 44: `EV_EVENT_TAG "LOADED_IMAGE::LoadOptions"`,
	} {
		if got := l.Events[i].String(); got != want {
			t.Errorf("event %d: %s, want %s", i+1, got, want)
		}
	}
	if s := (Logged{Type: 0x42}).String(); s != "type 0x42" {
		t.Error(s)
	}
}
