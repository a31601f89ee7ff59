package main

import (
	"strings"

	"tally/internal/cli"
	"tally/measure/eventlog"
	"tally/measure/tdx"
)

func measureTDXCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "tdx",
		Usage: "compute MRTD and RTMRs of an Intel TDX trust domain",
		Description: "Prints `REGISTER HEX`, one a line: mrtd from --ovmf; rtmr1 and rtmr2 from --kernel, --initrd and --append, or from --uki (alone:\n" +
			"handed over as -kernel; with --disk: started from that disk); rtmr0 from --memory and --acpi-tables, with edk2 202505 or later also\n" +
			"--smbios, with --disk also --disk-slot; rtmr3 from --rtmr3-event. Where the profile leaves a rule open, each value is printed as\n" +
			"`REGISTER LABEL HEX`, the label naming the rules it holds under. What is left out for want of an input is named on stderr.\n\n" +
			"--profile is HOST/FIRMWARE, or one of them, or gce/SHAPE. Hosts: " + hostNames() + ".\n" +
			"Firmwares: edk2-YYYYMM (OvmfPkgX64) and edk2-YYYYMM-inteltdx (IntelTdxX64) of edk2's stable releases 202405 to 202608,\n" +
			"debian-ovmf-2025.02, debian-inteltdx-2026.08; ,secure-boot or ,no-secure-boot behind the others says how they are built. Shapes: " + shapeNames() + ". Hosts before 10.2 change the kernel's header by\n" +
			"memory and initrd size, so rtmr1 may need --memory. Keys in the firmware's variable store are measured as they are; with Secure Boot on,\n" +
			"rtmr0 has one value for each certificate that may have vouched for the image.\n\n" +
			"--acpi-tables is QEMU's fw_cfg file etc/acpi/tables (see tally measure acpi); --smbios is /sys/firmware/dmi/tables/DMI of a guest of the same\n" +
			"shape. --vcpus checks that the ACPI tables enable so many. The machine is taken to be plain: no bootindex=, boot menu, further PCI roots or\n" +
			"fw_cfg files of the firmware's; with --disk no network card.\n\n" +
			"--log FILE is a guest's event log (/sys/firmware/acpi/tables/data/CCEL): the first event that differs is named with its likely cause; of\n" +
			"alternatives the one that holds longest. Exit 3, reason measurement: some differ.\n\n" +
			"Example: tally measure tdx --ovmf OVMF.fd --profile qemu-10.2/edk2-202502 --kernel vmlinuz --initrd initrd --append \"$(cat cmdline)\" --memory 2048M --acpi-tables tables.bin\n\n" +
			"--json prints tally.tdx/v1: profile, registers (register, label, digest, covers, hosts, firmwares, notes, events of register, what, detail,\n" +
			"digest, covers), lacks (register, needs, hosts, firmwares); with --log also differences, as tally measure pcr. With --ovmf alone it prints\n" +
			"tally.mrtd/v1: covers, values (pass, digest, events of what, gpa, pages, extended).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "ovmf", Usage: "firmware `FILE`"},
			&cli.StringFlag{Name: "profile", Usage: "`HOST/FIRMWARE` whose rules hold"},
			&cli.StringFlag{Name: "pass", Usage: "only this `ORDER` of MRTD: single-pass or two-pass"},
			&cli.StringFlag{Name: "kernel", Usage: "kernel `FILE` that the VMM hands over"},
			&cli.StringFlag{Name: "initrd", Usage: "initrd `FILE` with --kernel"},
			&cli.StringFlag{Name: "append", Usage: "kernel command line with --kernel"},
			&cli.StringFlag{Name: "uki", Usage: "unified kernel image `FILE`"},
			&cli.StringFlag{Name: "disk", Usage: "raw disk `FILE` with the GPT that the firmware starts --uki from"},
			&cli.StringFlag{Name: "disk-slot", Usage: "PCI `SLOT.FUNCTION` of the virtio-blk device with --disk, in hex"},
			&cli.StringFlag{Name: "memory", Usage: "memory `SIZE` of the machine, as QEMU's -m: MiB, or with M or G"},
			&cli.IntFlag{Name: "vcpus", Usage: "`NUMBER` of vCPUs that --acpi-tables must enable"},
			&cli.StringFlag{Name: "acpi-tables", Usage: "ACPI tables `FILE`"},
			&cli.StringFlag{Name: "smbios", Usage: "SMBIOS table `FILE`"},
			&cli.StringSliceFlag{Name: "rtmr3-event", Usage: "SHA-384 `HEX` that the application extends RTMR3 with (several times, in order)"},
			&cli.BoolFlag{Name: "explain", Usage: "print the event list behind each value"},
			&cli.StringFlag{Name: "log", Usage: "name the first event that differs from a guest's event log in `FILE`"},
		},
		Action: func(c *cli.Context) error { return measureTDX(c, e) },
	}
}

func hostNames() string {
	var all []string
	for _, h := range tdx.Hosts() {
		all = append(all, h.Name)
	}
	return strings.Join(all, ", ")
}

func shapeNames() string {
	var all []string
	for _, s := range tdx.GCEShapes() {
		all = append(all, s.Name)
	}
	return strings.Join(all, ", ")
}

// A tdxAnswer is tally.tdx/v1.
type tdxAnswer struct {
	Schema  string `json:"schema"`
	Profile string `json:"profile,omitempty"`
	*tdx.Result
	diffAnswer
}

func measureTDX(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	if err := refuseEmpty(c, "ovmf", "profile", "pass", "kernel", "initrd", "append", "uki", "disk", "disk-slot", "memory", "acpi-tables", "smbios", "log"); err != nil {
		return err
	}
	profile, err := tdxProfile(c)
	if err != nil {
		return err
	}
	if err := checkTDXFlags(c); err != nil {
		return err
	}
	if onlyMRTD(c) {
		return measureMRTD(c, e)
	}
	in, done, err := tdxInput(c)
	defer done()
	if err != nil {
		return err
	}
	r, err := tdx.Compute(*in, profile)
	if err != nil {
		return inInput(c, err, "ovmf")
	}
	diffs, err := compareTDX(c.String("log"), r)
	if err != nil {
		return err
	}
	return answerTDX(c, e, r, diffs)
}

// onlyMRTD says whether nothing but the firmware is asked about.
func onlyMRTD(c *cli.Context) bool {
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		if c.IsSet(name) && name != "ovmf" && name != "pass" && name != "explain" && name != "json" && name != "quiet" {
			return false
		}
	}
	return true
}

// tdxProfile reads --profile, narrowed by --pass.
func tdxProfile(c *cli.Context) (tdx.Profile, error) {
	p, err := tdx.ParseProfile(c.String("profile"))
	if err != nil {
		return p, usagef("--profile: %w", err)
	}
	switch pass := tdx.Pass(c.String("pass")); {
	case pass == "":
	case pass != tdx.SinglePass && pass != tdx.TwoPass:
		return p, usagef("--pass %q: want one of %v", pass, tdx.Passes())
	default:
		if p, err = p.WithPass(pass); err != nil {
			return p, usagef("--pass: %w", err)
		}
	}
	return p, nil
}

// checkTDXFlags refuses options that belong to another that is not there.
func checkTDXFlags(c *cli.Context) error {
	if !c.IsSet("ovmf") {
		return usagef("--ovmf is missing")
	}
	for _, need := range [][2]string{{"initrd", "kernel"}, {"append", "kernel"}, {"kernel", "append"}, {"disk", "uki"}, {"disk-slot", "disk"}, {"vcpus", "acpi-tables"}, {"smbios", "acpi-tables"}, {"acpi-tables", "memory"}} {
		if c.IsSet(need[0]) && !c.IsSet(need[1]) {
			return usagef("--%s needs --%s", need[0], need[1])
		}
	}
	switch n := c.Int("vcpus"); {
	case c.IsSet("kernel") && c.IsSet("uki"):
		return usagef("--kernel and --uki: want one of them")
	case c.IsSet("vcpus") && (n < 1 || n > 4096):
		return usagef("--vcpus %d: want 1 to 4096", n)
	}
	return nil
}

// compareTDX lays the events of each register beside those of a guest's log; of alternatives, the one that
// parts from it last.
func compareTDX(path string, r *tdx.Result) ([]eventlog.Difference, error) {
	if path == "" {
		return nil, nil
	}
	best := map[string][]eventlog.Difference{}
	var order []string
	for _, v := range r.Registers {
		if v.Register == "mrtd" {
			continue
		}
		diffs, err := compareLog(path, eventlog.SHA384, []string{v.Register}, v.Events)
		if err != nil {
			return nil, err
		}
		old, seen := best[v.Register]
		if !seen {
			order = append(order, v.Register)
		}
		if !seen || len(old) > 0 && (len(diffs) == 0 || diffs[0].Position > old[0].Position) {
			best[v.Register] = diffs
		}
	}
	var all []eventlog.Difference
	for _, name := range order {
		all = append(all, best[name]...)
	}
	return all, nil
}

func answerTDX(c *cli.Context, e *env, r *tdx.Result, diffs []eventlog.Difference) error {
	for _, l := range r.Lacks {
		under := ""
		if len(l.Firms) > 0 {
			under = " under " + strings.Join(l.Firms, ", ")
		}
		e.logf("%s is left out%s: it needs %s", l.Register, under, l.Needs)
	}
	if e.json {
		d, err := answerLog(diffs)
		if perr := e.printJSON(tdxAnswer{"tally.tdx/v1", c.String("profile"), r, d}); perr != nil {
			return perr
		}
		return err
	}
	for _, v := range r.Registers {
		if v.Label == "" {
			e.printf("%s %s\n", v.Register, v.Digest)
		} else {
			e.printf("%s %s %s\n", v.Register, v.Label, v.Digest)
		}
		if c.Bool("explain") {
			for _, ev := range v.Events {
				e.printf("  %s\n", explainEvent(ev))
			}
		}
	}
	return printEventDifferences(e, diffs)
}
