package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"tally/enclave/appraise/gpu"
	"tally/internal/cli"
)

// A rimAnswer is tally.quote/v1 of kind nvidia-rim. What quote show prints has no checks.
type rimAnswer struct {
	Schema   string      `json:"schema"`
	Kind     string      `json:"kind"`
	Verified *bool       `json:"verified,omitempty"`
	Accepted *bool       `json:"accepted,omitempty"` // with a policy
	Reason   gpu.Reason  `json:"reason,omitempty"`
	Note     string      `json:"note,omitempty"` // whose roots, when not NVIDIA's
	Checks   []gpu.Check `json:"checks,omitempty"`
	Manifest *rimShown   `json:"manifest,omitempty"`
}

type rimShown struct {
	Product      string     `json:"product"`
	Edition      string     `json:"edition"`
	Version      string     `json:"version"`
	Tag          string     `json:"tag"`
	SHA256       string     `json:"sha256"` // what a release names
	Measurements []rimIndex `json:"measurements"`
}

type rimIndex struct {
	Index   int      `json:"index"`
	Digests []string `json:"digests"`
}

func describeRIM(r *gpu.RIM) *rimShown {
	m := &rimShown{Product: r.Product, Edition: r.Edition, Version: r.Version, Tag: r.TagID, SHA256: fmt.Sprintf("%x", r.SHA256)}
	for _, i := range slices.Sorted(maps.Keys(r.Measurements)) {
		one := rimIndex{Index: i}
		for _, d := range r.Measurements[i] {
			one.Digests = append(one.Digests, d.String())
		}
		m.Measurements = append(m.Measurements, one)
	}
	return m
}

func rimShow(c *cli.Context, e *env, data []byte) error {
	if err := refuseFlags(c, "a device, which FILE is not", []string{"collateral"}); err != nil {
		return err
	}
	r, err := gpu.ParseRIM(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Args().First(), err)
	}
	return printRIM(e, &rimAnswer{Schema: "tally.quote/v1", Kind: "nvidia-rim", Manifest: describeRIM(r)})
}

// rimVerify judges a manifest by itself. Without a policy none of its signer's responses is asked for, and none pins it.
func rimVerify(c *cli.Context, e *env, data []byte) error {
	if err := refuseFlags(c, "a device, which FILE is not", []string{"nonce"}); err != nil {
		return err
	}
	var in gpu.Input
	judged, err := gpuWanted(c, e, &in)
	if refused := (*gpuRelease)(nil); errors.As(err, &refused) {
		return printVerification(e, refused.result, refused.err)
	}
	if err != nil {
		return err
	}
	if !judged {
		in.Policy = gpu.Policy{UnpinnedRIM: true, NoOCSP: true}
	}
	a := &rimAnswer{Schema: "tally.quote/v1", Kind: "nvidia-rim", Note: otherRoots(in.Roots)}
	err = a.judge(c, &in, data)
	ee := (*exitError)(nil)
	if errors.As(err, &ee) && ee.reason != "" {
		a.Reason = gpu.Reason(ee.reason)
	} else if err != nil {
		return err
	}
	good, verified := err == nil, !a.Reason.Unverified()
	a.Verified = &verified
	if judged {
		a.Accepted = &good
	}
	return errors.Join(err, printRIM(e, a))
}

func (a *rimAnswer) judge(c *cli.Context, in *gpu.Input, data []byte) error {
	col, err := readGPUCollateral(c.String("collateral"))
	if err != nil {
		return err
	}
	r, err := gpu.ParseRIM(data)
	if err == nil {
		in.OCSP, a.Manifest = col.ocsp, describeRIM(r)
		a.Checks, err = gpu.VerifyRIM(*in, r)
	}
	if err != nil {
		return gpuVerdict(fmt.Errorf("%s: %w", c.Args().First(), err), gpu.BadRIM)
	}
	return nil
}

func printRIM(e *env, a *rimAnswer) error {
	if e.json {
		return e.printJSON(a)
	}
	w := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	printRIMContents(w, a.Manifest, a.Verified == nil)
	note := ""
	if a.Note != "" {
		note = "  [" + a.Note + "]"
	}
	printGPUChecks(w, a.Checks, note)
	switch {
	case a.Verified == nil:
		fmt.Fprintf(w, "not verified\tthis is what the file says; 'tally quote verify' checks who says so\n")
	case a.Reason != "" && *a.Verified:
		fmt.Fprintf(w, "NOT ACCEPTED\treason: %s\n", a.Reason)
	case a.Reason != "":
		fmt.Fprintf(w, "NOT VERIFIED\treason: %s\n", a.Reason)
	case a.Accepted != nil:
		fmt.Fprintf(w, "ACCEPTED\tthe manifest%s\n", note)
	default:
		fmt.Fprintf(w, "VERIFIED\tits signer leads to NVIDIA's RIM root; whether the manifest is wanted, a policy or a release says\n")
	}
	return w.Flush()
}

func printRIMContents(w io.Writer, m *rimShown, all bool) {
	if m == nil {
		return
	}
	for _, f := range [][2]string{{"manifest", m.Tag}, {"  product", m.Product}, {"  edition", m.Edition}, {"  version", m.Version}, {"  sha256", m.SHA256}} {
		fmt.Fprintf(w, "%s\t%s\n", f[0], f[1])
	}
	if !all {
		return
	}
	for _, i := range m.Measurements {
		for _, d := range i.Digests {
			fmt.Fprintf(w, "  measurement %d\t%s\n", i.Index, d)
		}
	}
}
