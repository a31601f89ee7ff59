package qemu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tally/internal/testtool"
)

// guest writes a program that stands for QEMU and whose output is the console's.
func guest(t testing.TB, script string) Machine {
	t.Helper()
	dir := t.TempDir()
	m := Machine{QEMU: filepath.Join(dir, "qemu"), Accel: TCG, MemoryMB: 512, CPUs: 1, Firmware: filepath.Join(dir, "fw.fd")}
	for name, text := range map[string]string{m.QEMU: "#!/bin/sh\n" + script, m.Firmware: "x"} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name, script string
		want         Result
	}{
		{"serves and powers off", "echo 'tally-enclave: serving on :7443'", Result{End: PoweredOff, Served: true}},
		{"data block", "echo '[ 3.09] device-mapper: verity: 254:2: data block 244 is corrupted'; echo '[3.1] Kernel panic - not syncing: dm-verity device corrupted'",
			Result{End: HashTree, Detail: "verity: 254:2: data block 244 is corrupted"}},
		{"quiet corruption", "echo '[3.1] Kernel panic - not syncing: dm-verity device corrupted'", Result{End: HashTree, Detail: "dm-verity device corrupted"}},
		{"init refuses", "echo 'tally-init: refused: command line: no roothash=, want exactly one'",
			Result{End: Refused, Detail: "tally-init: refused: command line: no roothash=, want exactly one"}},
		{"enclave refuses after serving", "echo 'tally-enclave: serving on :1'; echo 'tally-enclave: refused: x'", Result{End: Refused, Detail: "tally-enclave: refused: x", Served: true}},
		{"panic", "echo 'Kernel panic - not syncing: VFS: no root'", Result{End: Panicked, Detail: "VFS: no root"}},
		{"first word counts", "echo 'tally-init: refused: x'; echo 'Kernel panic - not syncing: y'", Result{End: Refused, Detail: "tally-init: refused: x"}},
		{"not at the start of a line", "echo 'x tally-enclave: serving on :1'", Result{End: PoweredOff}},
		{"silent", "exit 0", Result{End: PoweredOff}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Run(context.Background(), guest(t, c.script), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Served != (got.ServeIn > 0) || got.Ran <= 0 {
				t.Errorf("times %v and %v, served %v", got.ServeIn, got.Ran, got.Served)
			}
			got.ServeIn, got.Ran = 0, 0
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestLimitStopsASilentGuest(t *testing.T) {
	r, err := Run(context.Background(), guest(t, "exec sleep 600"), Options{Boot: 50 * time.Millisecond})
	if err != nil || r.End != TimedOut {
		t.Errorf("%v, %v", r, err)
	}
}

func TestReadyStopsTheGuest(t *testing.T) {
	m := guest(t, "echo one; echo two; exec sleep 600")
	ran := false
	r, err := Run(context.Background(), m, Options{Until: func(l string) bool { return l == "two" }, Ready: func(context.Context) { ran = true }})
	if err != nil || r.End != Stopped || !ran {
		t.Errorf("%v, %v, ready ran: %v", r, err, ran)
	}
}

func TestReadyIsToldWhenTheGuestEnds(t *testing.T) {
	m := guest(t, "echo 'tally-enclave: serving on :1'; sleep 0.05; echo 'tally-enclave: refused: x'; exit 0")
	r, err := Run(context.Background(), m, Options{Ready: func(ctx context.Context) { <-ctx.Done() }})
	if err != nil || r.End != Refused {
		t.Errorf("%v, %v: want the guest's own end", r, err)
	}
}

func TestContextKills(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Run(ctx, guest(t, "echo up; exec sleep 600"), Options{Line: func(string) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestErrorsAreInQEMUsWords(t *testing.T) {
	_, err := Run(context.Background(), guest(t, "echo 'hostfwd: port\033[31m 1 in use' >&2; exit 1"), Options{})
	if err == nil || !strings.Contains(err.Error(), "hostfwd: port 1 in use") {
		t.Errorf("error %v", err)
	}
}

func TestConsoleIsSafeForATerminal(t *testing.T) {
	var got []string
	in := "\x1b[2J\x1b[01;01Hfirst\r\nsecond\rthird\x07\x9b31m\xff\x1b]0;title\x07\n\n\ttab\x1b[\nlast"
	readLines(strings.NewReader(in), func(l string) { got = append(got, l) })
	if d := cmp.Diff([]string{"first", "second", "third31m]0;title", " tab", "last"}, got); d != "" {
		t.Error(d)
	}
}

func FuzzReadLines(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\r\n" + strings.Repeat("x", 3*maxLine)))
	f.Fuzz(func(t *testing.T, b []byte) {
		readLines(strings.NewReader(string(b)), func(l string) {
			if l == "" || len(l) > maxLine || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("line %q", l)
			}
		})
	})
}

func TestArgs(t *testing.T) {
	m := guest(t, "")
	m.Disk, m.Forwards = filepath.Join(t.TempDir(), "a,b.raw"), []Forward{{17443, 7443}, {2, 1}}
	if err := os.WriteFile(m.Disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	args, err := m.Args()
	if err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"-drive":  "if=none,id=disk,format=raw,readonly=on,file=" + strings.ReplaceAll(m.Disk, ",", ",,"),
		"-netdev": "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:17443-:7443,hostfwd=tcp:127.0.0.1:2-:1",
		"-bios":   m.Firmware, "-accel": "tcg,thread=multi", "-cpu": "max",
	} {
		if i := slices.Index(args, flag); i < 0 || args[i+1] != want {
			t.Errorf("%s: %q in %q", flag, want, args)
		}
	}
	m.Volumes = []string{m.Disk}
	if args, err = m.Args(); err != nil || !slices.Contains(args, "if=none,id=volume0,format=raw,readonly=on,file="+strings.ReplaceAll(m.Disk, ",", ",,")) || !slices.Contains(args, "virtio-blk-pci,drive=volume0") {
		t.Errorf("a volume: %q, %v", args, err)
	}
	flash := m
	flash.Flash = true
	if args, err := flash.Args(); err != nil || slices.Contains(args, "-bios") || !slices.Contains(args, "if=pflash,format=raw,snapshot=on,file="+m.Firmware) {
		t.Errorf("a flash chip: %q, %v", args, err)
	}
	if !slices.Contains(args, "-no-reboot") || slices.Contains(args, "-kernel") || slices.Contains(args, "-initrd") {
		t.Errorf("args %q", args)
	}
}

func TestMachinesThatCannotBe(t *testing.T) {
	good := guest(t, "")
	for want, change := range map[string]func(*Machine){
		"not installed":        func(m *Machine) { m.QEMU = "" },
		"accelerator":          func(m *Machine) { m.Accel = "hvf" },
		"memory 1 MiB":         func(m *Machine) { m.MemoryMB = 1 },
		"cpus 0":               func(m *Machine) { m.CPUs = 0 },
		"nothing to boot":      func(m *Machine) { m.Firmware = "" },
		"flash without":        func(m *Machine) { m.Kernel, m.Firmware, m.Flash = m.Firmware, "", true },
		"without a kernel":     func(m *Machine) { m.Cmdline = "x" },
		"no such file":         func(m *Machine) { m.Disk = "/nonexistent" },
		"not a file":           func(m *Machine) { m.Disk = "/" },
		"17 volumes, want":     func(m *Machine) { m.Volumes = make([]string, 17) },
		"not a file\x00":       func(m *Machine) { m.Volumes = []string{"/"} },
		"port 7 of this":       func(m *Machine) { m.Forwards = []Forward{{7, 1}, {7, 2}} },
		"without a kernel\x00": func(m *Machine) { m.Initrd = m.Firmware },
	} {
		m := good
		change(&m)
		if _, err := Run(context.Background(), m, Options{}); err == nil || !strings.Contains(err.Error(), strings.TrimRight(want, "\x00")) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestParseForward(t *testing.T) {
	if f, err := ParseForward("17443:7443"); err != nil || f != (Forward{17443, 7443}) {
		t.Errorf("%v, %v", f, err)
	}
	for _, bad := range []string{"", "1", "1:", ":1", "0:1", "1:0", "65536:1", "1:2:3", "a:b", "+1:2", "127.0.0.1:1:2"} {
		if f, err := ParseForward(bad); err == nil {
			t.Errorf("%q: %v, want an error", bad, f)
		}
	}
}

// TestRealQEMU boots a firmware of our own, a few instructions long, in the real program: command line,
// console, forwards, ends.
func TestRealQEMU(t *testing.T) {
	qemu := testtool.Need(t, Binary)
	fw := filepath.Join(t.TempDir(), "fw,1.fd")
	boot := func(text string, opt Options) (Result, []string) {
		t.Helper()
		if err := os.WriteFile(fw, speakingFirmware(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var lines []string
		opt.Line, opt.Boot = func(l string) { lines = append(lines, l) }, 60*time.Second
		r, err := Run(context.Background(), Machine{QEMU: qemu, Accel: TCG, MemoryMB: 128, CPUs: 1, Firmware: fw, Disk: fw}, opt)
		if err != nil {
			t.Fatal(err)
		}
		return r, lines
	}
	r, lines := boot("hello\ntally-init: refused: no\n", Options{})
	if d := cmp.Diff([]string{"hello", "tally-init: refused: no"}, lines); d != "" || r.End != Refused {
		t.Errorf("end %s, lines %s", r.End, d)
	}
	if r, _ = boot("tally-enclave: serving on :7443\n", Options{}); r.End != PoweredOff || !r.Served {
		t.Errorf("%+v", r)
	}
}

func TestProbe(t *testing.T) {
	qemu := testtool.Need(t, Binary)
	if err := Probe(context.Background(), qemu, TCG, ""); err != nil {
		t.Errorf("software emulation: %v", err)
	}
	fake := guest(t, "exit 0").QEMU
	if err := Probe(context.Background(), fake, TCG, ""); err == nil {
		t.Error("a guest that says nothing: no error")
	}
	if err := Probe(context.Background(), guest(t, "echo 'failed to set MSR' >&2; exit 1").QEMU, TCG, ""); err == nil || !strings.Contains(err.Error(), "failed to set MSR") {
		t.Errorf("error %v", err)
	}
}

// A guest that floods its console is followed, not stored.
func TestFloodedConsole(t *testing.T) {
	lines, longest := 0, 0
	m := guest(t, "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo 'tally-init: refused: at the end'")
	r, err := Run(context.Background(), m, Options{Line: func(l string) { lines, longest = lines+1, max(longest, len(l)) }})
	if err != nil || r.End != Refused || longest > maxLine || lines < 3000000/maxLine {
		t.Errorf("%+v, %v, %d lines of at most %d", r, err, lines, longest)
	}
}

// Only the lines of our own programs at the start of a line decide; a kernel's log may quote them.
func TestJudge(t *testing.T) {
	for line, want := range map[string]End{
		"[ 1.0] tally-init: refused: x":                                      "",
		"TALLY-INIT: REFUSED: x":                                             "",
		"device-mapper: verity: sha256 using implementation":                 "",
		"[ 2.7] device-mapper: verity: 254:3: metadata block 3 is corrupted": HashTree,
		"[ 2.7] Kernel panic - not syncing: dm-verity device has I/O error":  Panicked,
		"[ 2.7] Kernel panic - not syncing: Attempted to kill init!":         Panicked,
		"tally-enclave: refused: listen: address in use":                     Refused,
		"tally-enclave: stopped":                                             "",
	} {
		f := &follower{}
		if f.judge(line); f.res.End != want {
			t.Errorf("%q: %q, want %q", line, f.res.End, want)
		}
	}
}

// The time to boot does not limit the time to serve.
func TestLimitEndsWhenItServes(t *testing.T) {
	m := guest(t, "echo 'tally-enclave: serving on :1'; sleep 0.4")
	if r, err := Run(context.Background(), m, Options{Boot: 200 * time.Millisecond}); err != nil || r.End != PoweredOff || !r.Served {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestProbeOfAKernelBootsThatKernel(t *testing.T) {
	m := guest(t, "case \"$*\" in *\"-kernel $0 -append console=ttyS0 panic=-1\"*) echo '[0.0] Linux version 6'; exec sleep 600;; esac")
	if err := Probe(context.Background(), m.QEMU, TCG, m.QEMU); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Probe(ctx, m.QEMU, TCG, m.QEMU); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestFind(t *testing.T) {
	m := guest(t, "")
	t.Setenv("PATH", filepath.Dir(m.QEMU))
	if _, err := Find(); !errors.Is(err, ErrMissing) {
		t.Errorf("error %v", err)
	}
	named := filepath.Join(filepath.Dir(m.QEMU), Binary)
	if err := os.Rename(m.QEMU, named); err != nil {
		t.Fatal(err)
	}
	if p, err := Find(); err != nil || p != named {
		t.Errorf("%q, %v", p, err)
	}
}

func TestTailKeepsTheLastWords(t *testing.T) {
	var w tail
	for range 1000 {
		w.Write([]byte("noise\n"))
	}
	w.Write([]byte("the end\n"))
	if got := w.text(); len(got) > 2048 || !strings.HasSuffix(got, "noise the end") {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-20):])
	}
}
