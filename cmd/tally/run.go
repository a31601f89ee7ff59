package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"tally/internal/cli"
	"tally/internal/pattern"
	"tally/internal/qemu"
	"tally/mkimage"
)

const runDescription = `Boots OUT/disk.raw (--boot uki: the firmware of OUT loads the UKI from the disk) or OUT's kernel, initrd and command line with
that disk (--boot direct). Every OUT/models/NAME.raw is attached too. Disks are opened read-only. The console goes to stderr. The guest reaches nothing
outside; --forward leads ports of 127.0.0.1 to it. There is no TEE here: this shows that an image boots, serves and
refuses what it should, and keeps nothing secret from this machine.

Without more, the guest runs until it ends or Ctrl-C. With --until-serving or --until it is stopped at that line. With a
COMMAND behind --, the command runs once the guest serves, the guest is stopped after it, and its exit code is the
answer:

    tally run OUT --forward 17443:7443 -- tally connect 127.0.0.1:17443 ...

Exit codes: 0 the guest ended by itself or was stopped as asked; 4 (reason hash-tree) dm-verity met a block that is
not as measured; 1 it refused for another reason, panicked, ended before what was waited for, or exceeded --timeout.

--json prints tally.run/v1: boot, accel (tcg or kvm), firmware (its name, "" for QEMU's own), end (powered-off, refused,
hash-tree, panicked, stopped, timed-out), reason ("" or hash-tree), detail (the console line that decided), served,
serve_ms (from start to serving; absent when it never served), ran_ms. The output of COMMAND then goes to stderr.`

func runCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "boot a built image in QEMU on this machine", ArgsUsage: "OUT [-- COMMAND ARGS...]",
		Description: runDescription,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "boot", Value: "uki", Usage: "boot `PATH`: uki or direct"},
			&cli.StringFlag{Name: "firmware", Usage: "`NAME` of one of OUT's firmware files (default: the first for uki, QEMU's own for direct)"},
			&cli.StringFlag{Name: "disk", Usage: "boot with this `FILE` in place of OUT/disk.raw, to see what a changed disk does"},
			&cli.StringSliceFlag{Name: "forward", Usage: "lead a port of 127.0.0.1 to the guest: `HOSTPORT:GUESTPORT` (may stand more than once)"},
			&cli.DurationFlag{Name: "timeout", Value: 3 * time.Minute, Usage: "longest `TIME` until the guest serves or ends"},
			&cli.BoolFlag{Name: "until-serving", Usage: "stop the guest as soon as it serves"},
			&cli.StringFlag{Name: "until", Usage: "stop the guest at the first console line that matches `REGEXP`"},
			&cli.IntFlag{Name: "memory", Value: 512, Usage: "memory in `MIB`"},
			&cli.IntFlag{Name: "cpus", Value: 1, Usage: "`NUMBER` of CPUs"},
			&cli.BoolFlag{Name: "tpm", Usage: "add a software TPM with fresh state (swtpm); the enclave prints the PCRs of its boot"},
			&cli.StringFlag{Name: "accel", Value: "auto", Usage: "`HOW`: auto (kvm if a probe boot works), tcg or kvm"},
		},
		Action: func(c *cli.Context) error { return runRun(c, e) },
	}
}

func runRun(c *cli.Context, e *env) error {
	if !c.Args().Present() {
		return usagef("tally run wants OUT, the directory that tally build wrote")
	}
	b := &bootRun{e: e, talk: &lockedWriter{w: e.stderr}, command: c.Args().Tail()}
	if err := b.options(c); err != nil {
		return err
	}
	if err := b.machine(c); err != nil {
		return err
	}
	if c.Bool("tpm") {
		tpm, err := qemu.StartTPM(c.Context)
		if err != nil {
			return withHint(err, "on Debian: apt-get install %s", qemu.TPMPackage)
		}
		defer tpm.Stop()
		b.m.TPM = tpm.Socket
	}
	b.say("booting %s (%s, %s)", c.Args().First(), c.String("boot"), b.m.Accel)
	r, err := qemu.Run(c.Context, b.m, b.opt)
	if errors.Is(err, context.Canceled) && r.Served && b.opt.Ready == nil {
		r.End, err = qemu.Stopped, nil // Ctrl-C is how a serving guest is left
	}
	if err != nil {
		return err
	}
	b.say("guest %s after %.1f s", r.End, r.Ran.Seconds())
	if err := b.print(c, r); err != nil {
		return err
	}
	return b.judge(r)
}

// A bootRun is one run of the command.
type bootRun struct {
	e       *env
	talk    *lockedWriter
	m       qemu.Machine
	opt     qemu.Options
	fw      string // name of the firmware
	command []string
	ready   bool  // what was waited for came
	cmdErr  error // how the command ended
}

func (b *bootRun) say(format string, args ...any) {
	if !b.e.quiet {
		fmt.Fprintf(b.talk, "tally: "+format+"\n", args...)
	}
}

func (b *bootRun) console(line string) {
	if !b.e.quiet {
		fmt.Fprintf(b.talk, "| %s\n", line)
	}
}

// options reads how long the guest is to run.
func (b *bootRun) options(c *cli.Context) error {
	b.opt = qemu.Options{Boot: c.Duration("timeout"), Line: b.console}
	wants := 0
	for _, w := range []bool{c.Bool("until-serving"), c.IsSet("until"), len(b.command) > 0} {
		if w {
			wants++
		}
	}
	if wants > 1 {
		return usagef("--until-serving, --until and a COMMAND: want at most one of them")
	}
	if b.opt.Boot <= 0 {
		return usagef("--timeout %v: want more than 0", b.opt.Boot)
	}
	if wants == 1 {
		b.opt.Ready = b.whenReady
	}
	if c.IsSet("until") {
		re, err := regexp.Compile(c.String("until"))
		if err != nil {
			return usagef("--until: %w", err)
		}
		b.opt.Until = re.MatchString
	}
	return nil
}

// whenReady runs while the guest serves; the guest is stopped when it returns.
func (b *bootRun) whenReady(ctx context.Context) {
	b.ready = true
	if len(b.command) == 0 {
		return
	}
	cmd := exec.CommandContext(ctx, b.command[0], b.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = b.e.stdin, b.e.stdout, b.talk
	if b.e.json {
		cmd.Stdout = b.talk
	}
	b.say("running %s", strings.Join(b.command, " "))
	b.cmdErr = cmd.Run()
}

// machine puts the virtual machine together from the flags and OUT's manifest.
func (b *bootRun) machine(c *cli.Context) (err error) {
	out := c.Args().First()
	b.m = qemu.Machine{MemoryMB: c.Int("memory"), CPUs: c.Int("cpus"), Disk: filepath.Join(out, "disk.raw")}
	if c.IsSet("disk") {
		b.m.Disk = c.String("disk")
	}
	// What is attached proves nothing: init opens what the measured root names.
	if b.m.Volumes, err = filepath.Glob(filepath.Join(globQuote(out), "models", "*.raw")); err != nil {
		return err
	}
	for _, s := range c.StringSlice("forward") {
		f, err := qemu.ParseForward(s)
		if err != nil {
			return usagef("--forward %w", err)
		}
		b.m.Forwards = append(b.m.Forwards, f)
	}
	switch c.String("boot") {
	case "direct":
		words, err := os.ReadFile(filepath.Join(out, "cmdline"))
		if err != nil {
			return err
		}
		b.m.Kernel, b.m.Initrd, b.m.Cmdline = filepath.Join(out, "vmlinuz"), filepath.Join(out, "initrd"), string(words)
	case "uki":
	default:
		return usagef("--boot %q: want uki or direct", c.String("boot"))
	}
	if c.String("boot") == "uki" || c.IsSet("firmware") {
		if err := b.firmware(out, c.String("firmware")); err != nil {
			return err
		}
	}
	if b.m.QEMU, err = qemu.Find(); err != nil {
		return withHint(err, "on Debian: apt-get install %s", qemu.Package)
	}
	return b.accel(c, filepath.Join(out, "vmlinuz"))
}

// globQuote makes a path stand for itself in a pattern.
func globQuote(s string) string { return globMeta.ReplaceAllString(s, `\\$0`) }

var globMeta = pattern.New(`[*?\[\\]`)

// firmware finds the file of the named firmware, or of the first, in OUT's manifest.
func (b *bootRun) firmware(out, name string) error {
	path := filepath.Join(out, "manifest.json")
	data, err := readSmall(path, mkimage.MaxManifest)
	if err != nil {
		return err
	}
	m, err := mkimage.ParseManifest(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var names []string
	for _, f := range m.Firmware {
		if name == "" || f.Name == name {
			if !filepath.IsLocal(f.File) {
				return fmt.Errorf("%s: firmware %q: file %.80q is not below %s", path, f.Name, f.File, out)
			}
			b.fw, b.m.Firmware = f.Name, filepath.Join(out, f.File)
			return nil
		}
		names = append(names, f.Name)
	}
	if name == "" {
		return withHint(fmt.Errorf("%s: no firmware, which a UKI boot needs", path), "use --boot direct, or add a firmware to the spec")
	}
	return fmt.Errorf("%s: no firmware %q: want one of %q", path, name, names)
}

// accel decides how the guest's instructions run. /dev/kvm is believed only after a boot.
func (b *bootRun) accel(c *cli.Context, kernel string) error {
	switch a := qemu.Accel(c.String("accel")); a {
	case qemu.TCG, qemu.KVM:
		b.m.Accel = a
		return nil
	case "auto":
	default:
		return usagef("--accel %q: want auto, tcg or kvm", a)
	}
	b.m.Accel = qemu.KVM
	if err := qemu.Probe(c.Context, b.m.QEMU, qemu.KVM, kernel); err != nil {
		b.m.Accel = qemu.TCG
		b.say("no KVM here: %.100s; using software emulation", err)
	}
	return c.Context.Err()
}

// A lockedWriter lets the console, the talk and a command share one stream.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
