package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bareMachine has nothing; tests add what they need.
func bareMachine(t *testing.T) machine {
	return machine{
		root:  t.TempDir(),
		look:  func(string) (string, error) { return "", errors.New("not installed") },
		run:   func(context.Context, string, ...string) (string, error) { return "version 1", nil },
		probe: func(context.Context, string) error { return errors.New("failed to set MSR") },
		free:  func(string) (uint64, error) { return 10 << 30, nil },
		cache: func() (string, error) { return "/cache", nil },
		steps: func(context.Context) error { return errors.New("not permitted") },
	}
}

func (m machine) with(t *testing.T, file, text string) machine {
	t.Helper()
	p := filepath.Join(m.root, file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return m
}

func (d *diagnosis) state(name string) string {
	for _, f := range d.Found {
		if f.Name == name {
			return f.State + " " + f.Detail
		}
	}
	return ""
}

// able lists the tasks that can be done.
func (d *diagnosis) able() string {
	var out []string
	for _, a := range d.Can {
		if a.Yes {
			out = append(out, strings.Fields(a.Task)[0])
		}
		if a.Why == "" {
			out = append(out, a.Task+" without a reason")
		}
	}
	return strings.Join(out, " ")
}

func TestDoctorOnABareMachine(t *testing.T) {
	d := examine(context.Background(), bareMachine(t))
	if got := d.able(); got != "measure," {
		t.Errorf("can %q", got)
	}
	for _, f := range d.Found {
		if f.State != "no" && f.Name != "cache" || f.Detail == "" {
			t.Errorf("%+v", f)
		}
	}
	if got := d.state("namespaces"); got != "no not permitted" {
		t.Errorf("namespaces: %q", got)
	}
	if got := d.state("qemu-system-x86_64"); !strings.Contains(got, "qemu-system-x86") {
		t.Errorf("QEMU: %q names no package", got)
	}
}

func TestDoctorOnAFullMachine(t *testing.T) {
	m := bareMachine(t).with(t, "etc/apt/sources.list", "deb http://mirror.test/debian trixie main\n").
		with(t, "dev/kvm", "").with(t, "dev/sev-guest", "").with(t, "sys/module/kvm_amd/parameters/sev_snp", "Y\n")
	m.look = func(name string) (string, error) { return "/bin/" + name, nil }
	m.steps = func(context.Context) error { return nil }
	m.probe = func(_ context.Context, q string) error {
		if q != "/bin/qemu-system-x86_64" {
			t.Errorf("probed %q", q)
		}
		return nil
	}
	d := examine(context.Background(), m)
	if got := d.able(); got != "measure, build run boot be host" {
		t.Errorf("can %q", got)
	}
	if got := d.state("kvm"); !strings.HasPrefix(got, "partly") || !strings.Contains(got, "tiny") {
		t.Errorf("kvm %q: more is said than a tiny guest shows", got)
	}
	if got := d.state("debian-mirror"); strings.Contains(got, "mirror.test") || !strings.HasPrefix(got, "yes 1 ") {
		t.Errorf("mirror: %q", got)
	}
}

// /dev/kvm is there on machines where no guest runs.
func TestDoctorDoesNotBelieveInKVM(t *testing.T) {
	m := bareMachine(t).with(t, "dev/kvm", "")
	if got := examine(context.Background(), m).state("kvm"); !strings.HasPrefix(got, "partly") {
		t.Errorf("without QEMU: %q", got)
	}
	m.look = func(name string) (string, error) { return "/bin/" + name, nil }
	d := examine(context.Background(), m)
	if got := d.state("kvm"); !strings.HasPrefix(got, "no ") || !strings.Contains(got, "failed to set MSR") {
		t.Errorf("probe fails: %q", got)
	}
	if !strings.Contains(d.Can[3].Why, "TCG") {
		t.Errorf("boot: %+v", d.Can[3])
	}
}

func TestDoctorSaysWhatIsDoubtful(t *testing.T) {
	m := bareMachine(t).with(t, "sys/module/kvm_amd/parameters/sev_snp", "N\n")
	m.look = func(name string) (string, error) { return "/bin/" + name, nil }
	m.run = func(context.Context, string, ...string) (string, error) { return "", errors.New("exit status 127") }
	m.free = func(string) (uint64, error) { return 5 << 20, nil }
	d := examine(context.Background(), m)
	for name, want := range map[string]string{"go": "partly /bin/go: exit status 127", "cache": "partly /cache: 5 MiB", "sev-snp-host": "no "} {
		if got := d.state(name); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	m.cache = func() (string, error) { return "", errors.New("no home") }
	if got := examine(context.Background(), m).state("cache"); !strings.HasPrefix(got, "no no home") {
		t.Errorf("cache: %q", got)
	}
}

func TestDoctorHere(t *testing.T) {
	if n, err := freeBytes(filepath.Join(t.TempDir(), "not", "there", "yet")); err != nil || n == 0 {
		t.Errorf("free space: %d, %v", n, err)
	}
	code, out, stderr := run(t, "doctor", "--json")
	if code != 0 || !strings.Contains(out, `"schema": "tally.doctor/v1"`) {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
	if code, out, _ := run(t, "doctor"); code != 0 || !strings.Contains(out, "boot images (tally run)") {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, out, _ := run(t, "doctor", "x"); code != exitUsage || out != "" {
		t.Errorf("exit %d: %s", code, out)
	}
}
