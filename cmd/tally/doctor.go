package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"tally/internal/aptconf"
	"tally/internal/cli"
	"tally/internal/qemu"
	"tally/mkimage/steps"
)

const doctorDescription = `Looks at programs, devices and settings and says what tally can do here. Nothing is changed and nothing leaves this
machine. Of KVM it can say at most that a tiny guest ran: whether a stock kernel does, tally run finds out. Exit code 0 whatever is found.

--json prints tally.doctor/v1: can (a list of task, yes, why), found (a list of group, name, state, detail): state is yes, no
or partly.`

func doctorCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "say what this machine can do and what is missing", Description: doctorDescription,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c); err != nil {
				return err
			}
			d := examine(c.Context, thisMachine())
			if err := c.Context.Err(); err != nil {
				return err
			}
			if e.json {
				return e.printJSON(d)
			}
			return d.print(e)
		},
	}
}

// A machine is what examine asks; tests put another in its place.
type machine struct {
	root  string // of the file system
	look  func(program string) (string, error)
	run   func(ctx context.Context, program string, args ...string) (firstLine string, err error)
	probe func(ctx context.Context, qemuPath string) error // does KVM run a guest?
	free  func(dir string) (bytes uint64, err error)
	cache func() (string, error)
	steps func(ctx context.Context) error // can a build step be isolated?
}

func thisMachine() machine {
	return machine{root: "/", look: lookProgram, run: firstLine, free: freeBytes, cache: os.UserCacheDir,
		probe: func(ctx context.Context, q string) error { return qemu.Probe(ctx, q, qemu.KVM, "") },
		steps: func(ctx context.Context) error { return steps.Probe(ctx, "") }}
}

// lookProgram looks where a root user's shell would, too.
func lookProgram(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p, nil
		}
	}
	return "", errors.New("not installed")
}

func firstLine(ctx context.Context, program string, args ...string) (string, error) {
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, program, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), err
}

// A diagnosis is the answer (tally.doctor/v1).
type diagnosis struct {
	Schema string    `json:"schema"`
	Can    []ability `json:"can"`
	Found  []finding `json:"found"`
}

// An ability is one thing tally does.
type ability struct {
	Task string `json:"task"`
	Yes  bool   `json:"yes"`
	Why  string `json:"why"` // how, or what is missing
}

// A finding is one thing looked at.
type finding struct {
	Group  string `json:"group"`
	Name   string `json:"name"`
	State  string `json:"state"` // yes, no, partly
	Detail string `json:"detail"`
}

func (d *diagnosis) add(group, name, state, detail string) {
	d.Found = append(d.Found, finding{group, name, state, detail})
}

// has says whether name was found, in whole or in part.
func (d *diagnosis) has(name string) bool {
	for _, f := range d.Found {
		if f.Name == name {
			return f.State != "no"
		}
	}
	return false
}

func examine(ctx context.Context, m machine) *diagnosis {
	d := &diagnosis{Schema: "tally.doctor/v1"}
	d.building(ctx, m)
	d.booting(ctx, m)
	d.attesting(m)
	d.oracles(m)
	d.conclude()
	return d
}

// program adds a finding about a program and returns its path, "" when it is missing.
func (d *diagnosis) program(ctx context.Context, m machine, group, name, missing string, version ...string) string {
	p, err := m.look(name)
	if err != nil {
		d.add(group, name, "no", missing)
		return ""
	}
	detail := p
	if len(version) > 0 {
		line, err := m.run(ctx, p, version...)
		if err != nil {
			d.add(group, name, "partly", fmt.Sprintf("%s: %v", p, err))
			return p
		}
		detail = line
	}
	d.add(group, name, "yes", detail)
	return p
}

func (d *diagnosis) building(ctx context.Context, m machine) {
	d.program(ctx, m, "build", "go", "install Go 1.21 or later: it compiles the guest", "version")
	if n := len(aptconf.Mirrors(os.DirFS(filepath.Join(m.root, "etc/apt")))); n > 0 {
		d.add("build", "debian-mirror", "yes", fmt.Sprintf("%d in this machine's apt configuration", n))
	} else {
		d.add("build", "debian-mirror", "no", "no apt configuration names one: give --mirror, or mirrors: in tally/config.yaml")
	}
	if err := m.steps(ctx); err != nil {
		d.add("build", "namespaces", "no", err.Error())
	} else {
		d.add("build", "namespaces", "yes", "an isolated build root was made")
	}
	dir, err := m.cache()
	if err != nil {
		d.add("build", "cache", "no", err.Error()+": give --cache")
		return
	}
	const want = 2 << 30
	switch n, err := m.free(dir); {
	case err != nil:
		d.add("build", "cache", "partly", fmt.Sprintf("%s: %v", dir, err))
	case n < want:
		d.add("build", "cache", "partly", fmt.Sprintf("%s: %d MiB free, 2048 are comfortable", dir, n>>20))
	default:
		d.add("build", "cache", "yes", fmt.Sprintf("%s: %d GiB free", dir, n>>30))
	}
}

func (d *diagnosis) booting(ctx context.Context, m machine) {
	q := d.program(ctx, m, "boot", qemu.Binary, "on Debian: apt-get install "+qemu.Package, "--version")
	_, err := os.Stat(filepath.Join(m.root, qemu.KVMDevice))
	switch {
	case err != nil:
		d.add("boot", "kvm", "no", "no "+qemu.KVMDevice+": guests run in software (TCG), some seconds slower")
	case q == "":
		d.add("boot", "kvm", "partly", qemu.KVMDevice+" is there, not tried without QEMU")
	default:
		if err := m.probe(ctx, q); err != nil {
			d.add("boot", "kvm", "no", fmt.Sprintf("%s is there, but a guest does not run: %.90s", qemu.KVMDevice, err))
		} else {
			d.add("boot", "kvm", "partly", "a tiny guest ran; tally run tries the image's own kernel and else emulates")
		}
	}
	d.program(ctx, m, "boot", "swtpm", "on Debian: apt-get install swtpm (a TPM for guests)")
}

// attesting looks for what an enclave needs when this machine is a confidential guest, and for what a
// host needs to start one.
func (d *diagnosis) attesting(m machine) {
	for _, dev := range []struct{ name, path, what string }{
		{"sev-guest", "dev/sev-guest", "this machine is an SEV-SNP guest"},
		{"tdx-guest", "dev/tdx_guest", "this machine is a TDX guest"},
		{"configfs-tsm", "sys/kernel/config/tsm/report", "reports can be had from the kernel"},
		{"tpm", "dev/tpmrm0", "TPM 2.0 with a resource manager"},
	} {
		path := filepath.Join(m.root, dev.path)
		if _, err := os.Stat(path); err != nil {
			d.add("attest", dev.name, "no", "no /"+dev.path)
			continue
		}
		d.add("attest", dev.name, "yes", dev.what)
	}
	for _, p := range []struct{ name, path string }{
		{"sev-snp-host", "sys/module/kvm_amd/parameters/sev_snp"},
		{"tdx-host", "sys/module/kvm_intel/parameters/tdx"},
	} {
		b, err := os.ReadFile(filepath.Join(m.root, p.path))
		if on := strings.TrimSpace(string(b)); err == nil && (on == "Y" || on == "1") {
			d.add("attest", p.name, "yes", "/"+p.path+" is on: confidential guests can be started")
		} else {
			d.add("attest", p.name, "no", "/"+p.path+" is not on")
		}
	}
}

// oracles are programs of others with which tests and people check ours.
func (d *diagnosis) oracles(m machine) {
	for _, o := range [][2]string{
		{"veritysetup", "cryptsetup-bin"}, {"fsck.erofs", "erofs-utils"}, {"sgdisk", "gdisk"}, {"fsck.fat", "dosfstools"}, {"cosign", ""},
	} {
		hint := "on Debian: apt-get install " + o[1]
		if o[1] == "" {
			hint = "verifies the same bundles, by the Sigstore project"
		}
		d.program(context.Background(), m, "check", o[0], hint)
	}
}

func (d *diagnosis) conclude() {
	can := func(task string, yes bool, why, whyNot string) {
		if !yes {
			why = whyNot
		}
		d.Can = append(d.Can, ability{task, yes, why})
	}
	can("measure, verify, appraise", true, "needs nothing but tally", "")
	can("build and rebuild images", d.has("go") && d.has("debian-mirror"), "go and a Debian mirror are there", "needs go and a Debian mirror (or a full cache and --offline)")
	can("run build steps (steps: in a spec)", d.has("namespaces"), "in namespaces of Linux, without root", "needs Linux with user namespaces")
	can("boot images (tally run)", d.has(qemu.Binary), "in software (TCG), or with KVM where the image's kernel runs on it", "needs QEMU")
	can("be an attested enclave", d.has("sev-guest") || d.has("tdx-guest"), "a TEE device is there", "no TEE device: evidence made here is marked insecure")
	can("host confidential guests", d.has("sev-snp-host") || d.has("tdx-host"), "KVM has SEV-SNP or TDX on", "neither SEV-SNP nor TDX is on in KVM")
}

func (d *diagnosis) print(e *env) error {
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for _, a := range d.Can {
		fmt.Fprintf(w, "%s\t%s\t%s\n", a.Task, map[bool]string{true: "yes", false: "no"}[a.Yes], a.Why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	e.printf("\n")
	for _, f := range d.Found {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Group, f.Name, f.State, f.Detail)
	}
	return w.Flush()
}
