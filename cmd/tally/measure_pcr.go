package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sort"

	"tally/internal/cli"
	"tally/measure/eventlog"
	"tally/measure/pcr"
)

func measurePCRCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "pcr",
		Usage: "compute the TPM PCRs of a UKI boot",
		Description: "Prints `pcrN BANK HEX`, one register a line: 2, 3, 4, 6, 8, 9, 11 to 15 from the UKI; 5 when --disk names the disk it boots\n" +
			"from (its GPT is measured); 7 from the variable store of --ovmf or --vars (without either: one without keys), with Secure Boot off\n" +
			"in the form of --secure-boot, or on when keys are enrolled and db is the one certificate that vouches for the UKI; 0 from --ovmf, when\n" +
			"it is known what that firmware's PEI volume changes in itself before it is measured: edk2 2026.08 nothing, 2025.02 the port of the ACPI timer, for which\n" +
			"--machine is wanted. Of others (2022.11, builds with SMM) it is not. PCR 1 and 10 depend on the machine and on IMA and are never computed. --explain says of each register\n" +
			"without a value why, and which of its events are known. Releases 252 to 262 of systemd's stub are known; others are refused.\n\n" +
			"--policy adds `policy11 BANK HEX`: the digest that systemd-measure signs (pol in .pcrsig) for the boot phases given.\n\n" +
			"--log FILE is the event log of a real boot (/sys/kernel/security/tpm0/binary_bios_measurements): each register's events are laid beside\n" +
			"the predicted ones, and the first that differs is named with its likely cause. Exit 3, reason measurement: some differ.\n\n" +
			"--json prints tally.pcr/v1: bank, pcrs (by number), events (register, what, digest, covers) in boot order, assumes (what must not happen in the guest: which\n" +
			"units are masked), undecided (register, reason, events: those that are known), policy; with --log also\n" +
			"differences (register, position, kind changed|missing|extra, predicted, predicted_digest, logged, logged_digest, event, cause), and reason\n" +
			"when there are some.\n\n" +
			"Example: tally measure pcr --uki OUT/uki.efi --disk OUT/disk.raw",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "uki", Usage: "unified kernel image `FILE`"},
			&cli.StringFlag{Name: "disk", Usage: "raw disk `FILE` with the GPT it boots from"},
			&cli.StringFlag{Name: "ovmf", Usage: "firmware `FILE`: for PCR 0, and for the variable store that it starts with"},
			&cli.StringFlag{Name: "machine", Usage: "QEMU's machine `TYPE`, q35 or pc, which PCR 0 of OVMF 2025.02 depends on"},
			&cli.StringFlag{Name: "vars", Usage: "variable store `FILE`, in place of that in --ovmf"},
			&cli.StringFlag{Name: "bank", Value: "sha256", Usage: "sha1, sha256, sha384 or sha512"},
			&cli.StringFlag{Name: "secure-boot", Value: "empty", Usage: "how the firmware measures SecureBoot=off: empty (OVMF 2025.02 and later), zero (2022.11), or unknown to leave PCR 7 out"},
			&cli.StringSliceFlag{Name: "phase", Usage: "`WORD` that systemd-pcrextend adds to PCR 11 (several times; none without systemd)"},
			&cli.BoolFlag{Name: "policy", Usage: "also print the digest of the policy that wants this PCR 11"},
			&cli.BoolFlag{Name: "explain", Usage: "print the event list behind the values"},
			&cli.StringFlag{Name: "log", Usage: "name the first event that differs from a machine's event log in `FILE`"},
		},
		Action: func(c *cli.Context) error { return measurePCR(c, e) },
	}
}

// maxUKI is the largest UKI read, in bytes.
const maxUKI = 1 << 30

func measurePCR(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	bank, err := pcr.ParseBank(c.String("bank"))
	if err != nil {
		return usagef("--bank: %w", err)
	}
	in, err := pcrOptions(c)
	if err != nil {
		return err
	}
	if in.UKI, err = readAtMost(c.String("uki"), maxUKI); err != nil {
		return err
	}
	if err := readPCRFirmware(c, &in); err != nil {
		return err
	}
	if name := c.String("disk"); name != "" {
		disk, err := os.Open(name)
		if err != nil {
			return err
		}
		defer disk.Close()
		in.Disk = disk
	}
	r, err := pcr.Boot(in, bank)
	if err != nil {
		return inInput(c, err, "uki")
	}
	diffs, err := compareLog(c.String("log"), bank.Algorithm(), r.Registers(), r.Events)
	if err != nil {
		return err
	}
	a := pcrAnswer{Schema: "tally.pcr/v1", Result: r}
	if c.Bool("policy") {
		if a.Policy, err = pcr.Policy(bank, r.PCRs[11]); err != nil {
			return err
		}
	}
	return printPCRs(c, e, a, diffs)
}

// pcrOptions reads the options that are no files, and refuses what does not go together.
func pcrOptions(c *cli.Context) (in pcr.Input, err error) {
	in.Phases = c.StringSlice("phase")
	switch form := c.String("secure-boot"); form {
	case "empty", "zero":
		in.SecureBoot = pcr.SecureBootForm(form)
	case "unknown":
	default:
		return in, usagef("--secure-boot %q: want empty, zero or unknown", form)
	}
	if err := refuseEmpty(c, "uki", "disk", "log", "ovmf", "vars", "machine"); err != nil {
		return in, err
	}
	switch {
	case c.String("uki") == "":
		return in, usagef("--uki is missing")
	case !c.IsSet("machine"):
		return in, nil
	case !c.IsSet("ovmf"):
		return in, usagef("--machine needs --ovmf")
	}
	if in.Machine, err = pcr.ParseMachine(c.String("machine")); err != nil {
		return in, usagef("--machine: %w", err)
	}
	return in, nil
}

// readPCRFirmware reads --ovmf, which starts with a variable store, and --vars, which takes that one's place.
func readPCRFirmware(c *cli.Context, in *pcr.Input) (err error) {
	if name := c.String("ovmf"); name != "" {
		if in.Firmware, err = readAtMost(name, maxTDXFirmware); err != nil {
			return err
		}
		in.Variables = in.Firmware
	}
	if name := c.String("vars"); name != "" {
		in.Variables, err = readAtMost(name, maxTDXFirmware)
	}
	return err
}

func readAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() && fi.Size() <= limit {
		b.Grow(int(fi.Size()) + bytes.MinRead) // at once: a kernel is big
	}
	_, err = b.ReadFrom(io.LimitReader(f, limit+1))
	if err == nil && int64(b.Len()) > limit {
		err = fmt.Errorf("%s: more than %d bytes", name, limit)
	}
	return b.Bytes(), err
}

// A pcrAnswer is tally.pcr/v1.
type pcrAnswer struct {
	Schema string `json:"schema"`
	*pcr.Result
	Policy pcr.Value `json:"policy,omitempty"`
	diffAnswer
}

func printPCRs(c *cli.Context, e *env, a pcrAnswer, diffs []eventlog.Difference) error {
	if e.json {
		var verdict error
		a.diffAnswer, verdict = answerLog(diffs)
		if err := e.printJSON(a); err != nil {
			return err
		}
		return verdict
	}
	r := a.Result
	var numbers []int
	for n := range r.PCRs {
		numbers = append(numbers, n)
	}
	sort.Ints(numbers)
	for _, n := range numbers {
		e.printf("pcr%d %s %s\n", n, r.Bank, r.PCRs[n])
		for _, ev := range r.Events {
			if ev.Register == eventlog.PCR(n) && c.Bool("explain") {
				e.printf("  %s\n", explainEvent(ev))
			}
		}
	}
	if c.Bool("explain") {
		explainPCRs(e, r)
	}
	if a.Policy != nil {
		e.printf("policy11 %s %s\n", r.Bank, a.Policy)
	}
	return printEventDifferences(e, diffs)
}

// explainPCRs prints what the values assume, and why other registers have none.
func explainPCRs(e *env, r *pcr.Result) {
	for _, text := range r.Assumes {
		e.printf("assumes %s\n", text)
	}
	for _, u := range r.Undecided {
		e.printf("no %s: %s\n", u.Register, u.Reason)
		for _, ev := range u.Events {
			e.printf("  %s\n", explainEvent(ev))
		}
	}
}
