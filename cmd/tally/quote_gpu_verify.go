package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"tally/enclave/appraise/gpu"
	"tally/internal/cli"
	"tally/policy"
	"tally/release"
)

// A gpuAnswer is tally.quote/v1 of kind nvidia.
type gpuAnswer struct {
	Schema   string             `json:"schema"`
	Kind     string             `json:"kind"`
	Verified bool               `json:"verified"`
	Accepted *bool              `json:"accepted,omitempty"` // with a policy
	Reason   gpu.Reason         `json:"reason,omitempty"`
	Note     string             `json:"note,omitempty"` // whose roots, when not NVIDIA's
	Checks   []gpu.Check        `json:"checks"`         // of all devices together
	Devices  []gpu.DeviceResult `json:"devices"`
}

func gpuVerify(c *cli.Context, e *env, data []byte) error {
	if gpu.IsRIM(data) {
		return rimVerify(c, e, data)
	}
	in, judged, err := gpuInput(c, e, data)
	if refused := (*gpuRelease)(nil); errors.As(err, &refused) {
		return printVerification(e, refused.result, refused.err)
	}
	if ee := (*exitError)(nil); errors.As(err, &ee) && ee.code >= exitUnverified && ee.reason != "" {
		a := gpuAnswer{Schema: "tally.quote/v1", Kind: "nvidia", Verified: ee.code != exitUnverified, Reason: gpu.Reason(ee.reason), Checks: []gpu.Check{}, Devices: []gpu.DeviceResult{}}
		if c.IsSet("policy") {
			a.Accepted = new(bool)
		}
		return errors.Join(err, printGPU(e, &a))
	}
	if err != nil {
		return err
	}
	judge := gpu.Origin
	if judged {
		judge = gpu.Verify
	}
	res, err := judge(in)
	if err == nil && !judged {
		if err = eachOnce(res.Devices); err != nil {
			res.Reason = gpu.NoDevices
		}
	}
	a := gpuAnswer{Schema: "tally.quote/v1", Kind: "nvidia", Verified: err == nil || !res.Reason.Unverified(), Reason: res.Reason, Note: otherRoots(in.Roots), Checks: res.Checks, Devices: res.Devices}
	if judged {
		a.Accepted = &res.Accepted
	}
	if perr := printGPU(e, &a); perr != nil {
		return perr
	}
	if err != nil {
		return gpuVerdict(fmt.Errorf("%s: %w", c.Args().First(), err), res.Reason)
	}
	return nil
}

// otherRoots says that what is found rests on a policy's roots in place of NVIDIA's, "" when it does not.
func otherRoots(r gpu.Roots) string {
	if vendor, err := gpu.NVIDIA(); err == nil && vendor.Device.Equal(r.Device) && vendor.RIM.Equal(r.RIM) {
		return ""
	}
	return fmt.Sprintf("under %.80q of the policy, NOT NVIDIA's", r.Device.Subject.CommonName)
}

// eachOnce refuses a device that stands in the evidence twice, which gpu.Origin lets pass: it would be counted as two.
func eachOnce(all []gpu.DeviceResult) error {
	seen := map[string]int{}
	for i, d := range all {
		if j, ok := seen[d.ID]; ok {
			return fmt.Errorf("devices %d and %d are one and the same: %s", j, i, d.ID)
		}
		seen[d.ID] = i
	}
	return nil
}

func gpuInput(c *cli.Context, e *env, data []byte) (in gpu.Input, judge bool, err error) {
	if in.Nonce, err = gpuNonce(c); err != nil {
		return in, false, err
	}
	if judge, err = gpuWanted(c, e, &in); err != nil {
		return in, false, err
	}
	devices, col, err := gpuOpen(c, data)
	if err != nil {
		return in, false, err
	}
	in.Devices, in.Driver, in.RIMs, in.OCSP = devices, col.driver, col.rims, col.ocsp
	return in, judge, nil
}

// gpuWanted is what does not come with the evidence: time, policy and roots. It says whether there is a policy.
func gpuWanted(c *cli.Context, e *env, in *gpu.Input) (judge bool, err error) {
	if in.Now, err = timeFlag(c, "at"); err != nil {
		return false, err
	}
	if !c.IsSet("policy") {
		if c.IsSet("bundle") {
			return false, usagef("--bundle goes with --policy: it says whose release that may be")
		}
		in.Roots, err = gpu.NVIDIA()
		return false, err
	}
	p, err := loadPolicy(c)
	if err != nil {
		return false, err
	}
	if in.Policy, err = gpuPolicy(c, e, p, in.Now); err != nil {
		return false, err
	}
	in.Roots, err = p.GPU.Roots()
	return true, err
}

// gpuPolicy is the policy with the manifests that the release names, which is verified, offline, for that.
func gpuPolicy(c *cli.Context, e *env, p *policy.Policy, now time.Time) (gpu.Policy, error) {
	if !p.GPU.FromRelease() {
		if c.IsSet("bundle") {
			return gpu.Policy{}, usagef("--bundle: the policy's gpu.rims does not name the release")
		}
		return p.GPU.Policy(nil), nil
	}
	if !c.IsSet("bundle") {
		return gpu.Policy{}, usagef("the policy's gpu.rims names the release: want --bundle FILE")
	}
	data, err := readRelease(c, e, c.String("bundle"))
	if err != nil {
		return gpu.Policy{}, err
	}
	v, err := newVerificationAt(c.Context, c, p, now, nil)
	if err != nil {
		return gpu.Policy{}, err
	}
	r, err := v.verify(e, data)
	if err != nil {
		return gpu.Policy{}, &gpuRelease{r, err}
	}
	return p.GPU.Policy(r.Statement.Predicate.GPURIMs), nil
}

// A gpuRelease is a release that is refused: its checks are then the answer.
type gpuRelease struct {
	result *release.Result
	err    error
}

func (g *gpuRelease) Error() string { return g.err.Error() }
func (g *gpuRelease) Unwrap() error { return g.err }

func printGPU(e *env, a *gpuAnswer) error {
	if e.json {
		return e.printJSON(a)
	}
	w, note := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0), ""
	if a.Note != "" {
		note = "  [" + a.Note + "]"
	}
	for i, d := range a.Devices {
		fmt.Fprintf(w, "device %d\t%s\n", i, d.Arch)
		for _, f := range [][2]string{{"chip", d.Chip}, {"id", d.ID}, {"driver", d.Driver}, {"vbios", d.VBIOS}, {"mode", string(d.Mode)}} {
			if f[1] != "" {
				fmt.Fprintf(w, "  %s\t%s\n", f[0], f[1])
			}
		}
		printGPUChecks(w, d.Checks, note)
	}
	if len(a.Checks) > 0 {
		fmt.Fprintf(w, "all\t%d devices\n", len(a.Devices))
		printGPUChecks(w, a.Checks, note)
	}
	switch {
	case a.Accepted != nil && *a.Accepted:
		fmt.Fprintf(w, "ACCEPTED\t%d devices%s\n", len(a.Devices), note)
	case a.Reason != "" && a.Verified:
		fmt.Fprintf(w, "NOT ACCEPTED\treason: %s\n", a.Reason)
	case a.Reason != "":
		fmt.Fprintf(w, "NOT VERIFIED\treason: %s\n", a.Reason)
	default:
		fmt.Fprintf(w, "VERIFIED\t%d devices signed this; whether that is good, a policy says\n", len(a.Devices))
	}
	return w.Flush()
}

func printGPUChecks(w io.Writer, all []gpu.Check, note string) {
	for _, k := range all {
		text := k.Got
		if k.Want != "" && k.Want != k.Got {
			text += " (want " + k.Want + ")"
		}
		fmt.Fprintf(w, "  %s\t%s  %s%s\n", k.Name, k.Status, text, note)
	}
}

// A gpuShown is one device of tally.quote/v1 of kind nvidia, as quote show prints it.
type gpuShown struct {
	Arch   gpu.Arch   `json:"arch"`
	Driver string     `json:"driver,omitempty"`
	VBIOS  string     `json:"vbios,omitempty"`
	Mode   gpu.Mode   `json:"mode,omitempty"`
	Nonce  string     `json:"nonce"`
	FWID   string     `json:"fwid,omitempty"`
	RIMs   []string   `json:"manifests"` // by the names that the vendor's service has
	Blocks []gpuBlock `json:"blocks"`
	Opaque []gpuItem  `json:"opaque"`
}

type gpuBlock struct {
	Index  int    `json:"index"`
	Digest string `json:"digest"`
}

type gpuItem struct {
	Field gpu.Field `json:"field"`
	Value string    `json:"value"`
}

func gpuShow(c *cli.Context, e *env, data []byte) error {
	if gpu.IsRIM(data) {
		return rimShow(c, e, data)
	}
	devices, _, err := gpuOpen(c, data)
	if err != nil {
		return err
	}
	a := struct {
		Schema  string     `json:"schema"`
		Kind    string     `json:"kind"`
		Devices []gpuShown `json:"devices"`
	}{"tally.quote/v1", "nvidia", nil}
	for i, d := range devices {
		r, err := gpu.ParseReport(d.Report)
		if err != nil {
			return fmt.Errorf("%s: device %d: %w", c.Args().First(), i, err)
		}
		s, err := describeGPU(d.Arch, r)
		if err != nil {
			return fmt.Errorf("%s: device %d: %w", c.Args().First(), i, err)
		}
		a.Devices = append(a.Devices, s)
	}
	if e.json {
		return e.printJSON(a)
	}
	return showGPU(e, a.Devices)
}

func describeGPU(arch gpu.Arch, r *gpu.Report) (gpuShown, error) {
	s := gpuShown{Arch: arch, Nonce: fmt.Sprintf("%x", r.RequestNonce), FWID: fmt.Sprintf("%x", r.Opaque[gpu.FieldFWID])}
	var derr, merr error
	if !arch.Switch() {
		s.Driver, derr = r.Driver()
		s.Mode, merr = r.Mode()
	}
	vbios, verr := r.VBIOS()
	s.VBIOS, s.RIMs = vbios, gpuManifests(arch, r, s.Driver, vbios)
	for i := range 255 {
		if d, ok := r.Blocks[i]; ok {
			s.Blocks = append(s.Blocks, gpuBlock{i, d.String()})
		}
	}
	for f := range 1 << 16 {
		if v, ok := r.Opaque[gpu.Field(f)]; ok {
			s.Opaque = append(s.Opaque, gpuItem{gpu.Field(f), fmt.Sprintf("%x", v)})
		}
	}
	return s, errors.Join(derr, merr, verr)
}

func showGPU(e *env, all []gpuShown) error {
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	for i, d := range all {
		fmt.Fprintf(w, "device %d\t%s\n", i, d.Arch)
		for _, f := range [][2]string{{"driver", d.Driver}, {"vbios", d.VBIOS}, {"mode", string(d.Mode)}, {"nonce", d.Nonce}, {"fwid", d.FWID}} {
			if f[1] != "" {
				fmt.Fprintf(w, "  %s\t%s\n", f[0], f[1])
			}
		}
		for _, name := range d.RIMs {
			fmt.Fprintf(w, "  manifest\t%s\n", name)
		}
		for _, b := range d.Blocks {
			fmt.Fprintf(w, "  measurement %d\t%s\n", b.Index, b.Digest)
		}
	}
	fmt.Fprintf(w, "not verified\tthis is what the file says; 'tally quote verify' checks who says so\n")
	return w.Flush()
}
