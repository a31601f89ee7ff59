package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/crypto/ocsp"

	"tally/enclave/appraise/gpu"
	"tally/internal/cli"
)

const gpuFiles = "NVIDIA evidence is a JSON array of devices, as the vendor's tools write it (arch, certificate, evidence, nonce), also inside what its\n" +
	"'nvattest collect-evidence' prints; what 'tally connect --gpus FILE' saves; or the report of one device, binary or in hex, whose certificate chain is\n" +
	"chain.pem in the collateral. The collateral of GPUs is a directory: manifests (*.swidtag, *.xml), OCSP responses (*.der) and chain.pem. A manifest\n" +
	"can be FILE, too.\n"

// withGPU teaches the quote command about GPUs: show and verify hand NVIDIA evidence to gpuShow and gpuVerify, and
// anything else to who was there before.
func withGPU(e *env, quote *cli.Command) *cli.Command {
	for _, sub := range quote.Subcommands {
		flags, ours, text := gpuShowFlags, gpuShow, gpuShowText
		if sub.Name == "verify" {
			flags, ours, text = gpuVerifyFlags, gpuVerify, gpuVerifyText
		}
		var known, added []string // of the others; of GPUs alone
		for _, f := range sub.Flags {
			known = append(known, f.Names()[0])
		}
		for _, f := range flags() {
			if !slices.ContainsFunc(sub.Flags, func(o cli.Flag) bool { return o.Names()[0] == f.Names()[0] }) {
				sub.Flags, added = append(sub.Flags, f), append(added, f.Names()[0])
			}
		}
		other := sub.Action
		sub.Description += text
		sub.Action = func(c *cli.Context) error {
			data, ok, err := gpuEvidence(c, e)
			if err != nil {
				return err
			}
			if !ok {
				if err := refuseFlags(c, "NVIDIA evidence, which FILE is not", added); err != nil {
					return err
				}
				return other(c)
			}
			var foreign []string
			for _, name := range known {
				if !slices.ContainsFunc(flags(), func(f cli.Flag) bool { return f.Names()[0] == name }) {
					foreign = append(foreign, name)
				}
			}
			if err := refuseFlags(c, "other evidence than NVIDIA's", foreign); err != nil {
				return err
			}
			return ours(c, e, data)
		}
	}
	return quote
}

// refuseFlags refuses flags that mean nothing for the evidence at hand.
func refuseFlags(c *cli.Context, what string, names []string) error {
	for _, name := range names {
		if c.IsSet(name) {
			return usagef("--%s goes with %s", name, what)
		}
	}
	return nil
}

// gpuEvidence reads the one argument and says whether it is ours. What is not ours it leaves in e.argument.
func gpuEvidence(c *cli.Context, e *env) ([]byte, bool, error) {
	if c.Args().Len() != 1 {
		return nil, false, nil
	}
	path := c.Args().First()
	data, err := readAtMost(path, gpu.MaxEvidence)
	switch {
	case len(data) > gpu.MaxEvidence && (gpu.IsEvidence(data) || gpu.IsRIM(data)):
		return nil, false, err
	case err != nil && len(data) <= gpu.MaxEvidence:
		return nil, false, err
	case gpu.IsEvidence(data) || gpu.IsRIM(data):
		return data, true, nil
	}
	e.argument = data
	inner, err := collected(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return inner, inner != nil, err
}

// collected returns the array of devices in what the vendor's nvattest collect-evidence prints, nil when data is something else.
func collected(data []byte) ([]byte, error) {
	var f struct {
		Code    *int            `json:"result_code"`
		Message string          `json:"result_message"`
		Devices json.RawMessage `json:"evidences"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil || f.Code == nil {
		return nil, nil
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("evidence: more than one JSON value")
	}
	if *f.Code != 0 || len(f.Devices) == 0 || f.Devices[0] != '[' {
		return nil, fmt.Errorf("evidence: NVIDIA's collector ended with code %d (%.80q), want 0 and an array of evidences", *f.Code, f.Message)
	}
	return f.Devices, nil
}

func gpuShowFlags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{Name: "collateral", Usage: "what came with the evidence; of a bare NVIDIA report `DIR` with chain.pem"}}
}

func gpuVerifyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "collateral", Usage: "what the vendor says; of GPUs `DIR` with manifests, OCSP responses and chain.pem"},
		&cli.StringFlag{Name: "policy", Usage: "of GPUs, policy `FILE` whose section gpu they must satisfy"},
		&cli.StringFlag{Name: "bundle", Usage: "of GPUs, `FILE` with the release whose manifests they must match (with gpu.rims: [release])"},
		&cli.StringFlag{Name: "nonce", Usage: "of GPUs, the `HEX` that they were to answer (64 digits)"},
		&cli.StringFlag{Name: "at", Usage: "verify as of `TIME` (RFC 3339; default: now)"},
	}
}

const gpuShowText = "\n" + gpuFiles + "For GPUs --json prints tally.quote/v1 with kind nvidia and devices: a list of arch, driver, vbios, mode, nonce, fwid, manifests (their names at\n" +
	"the vendor's service), blocks (a list of index and digest), opaque (a list of field and value in hex). For a\n" +
	"manifest kind is nvidia-rim, and manifest holds product, edition, version, tag, sha256, measurements (a list of index and digests, of which one must be\n" +
	"the device's). Nothing is verified.\n"

const gpuVerifyText = "\n" + gpuFiles +
	"Without --policy: the chain to NVIDIA's device root, the report's signature, its firmware's digest and, with --nonce, what it answers. With it\n" +
	"also families, floors of driver and VBIOS, mode, manifests (their signatures, pins, all golden measurements) and OCSP responses. Nothing is fetched.\n" +
	"Where the policy pins the manifests that a release names, the release in --bundle is verified first; when it is not, its checks are the answer, as by\n" +
	"'tally release verify'.\n" +
	"Exit 4: not verified, reason report, chain, signature, fwid, rim, rim-signature, rim-chain, rim-expired or ocsp. Exit 5: verified and not what the\n" +
	"policy wants, reason policy, nonce, architecture, rim-missing, rim-unpinned, rim-conflict, measurement, rollback, mode, topology,\n" +
	"revoked, ocsp-stale or no-devices.\n" +
	"For GPUs --json prints tally.quote/v1 with kind nvidia, verified, accepted (with --policy), reason, note (under whose roots, when they are not NVIDIA's), checks of all devices together, and devices: a list of arch, chip, id, driver, vbios, mode,\n" +
	"measured, passed, uncovered, reason, checks (name, status ok|failed|not-checked, want, got, from). For a manifest kind is nvidia-rim, and manifest is as\n" +
	"'tally quote show' prints it: it is verified up to NVIDIA's RIM root, and with --policy as those that devices need.\n\n" +
	"   tally quote verify gpus.json --collateral nvidia/ --policy policy.yaml\n"

// gpuCollateral is what a directory holds about devices.
type gpuCollateral struct {
	driver *gpu.DriverState // of what an enclave shipped
	chain  []byte
	rims   []*gpu.RIM
	files  [][]byte // of rims
	ocsp   [][]byte
}

// gpuCollateralFlag is of the commands that appraise an enclave.
func gpuCollateralFlag() cli.Flag {
	return &cli.StringFlag{Name: "gpu-collateral", Usage: "`DIR` with manifests and OCSP responses of the enclave's GPUs, beside those that it ships (see 'tally quote verify')"}
}

// maxCollateral bounds the files of a directory of collateral.
const maxCollateral = 512

func readGPUCollateral(dir string) (col gpuCollateral, err error) {
	if dir == "" {
		return col, nil
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > maxCollateral {
		err = fmt.Errorf("%s: %d files, want at most %d", dir, len(entries), maxCollateral)
	}
	if err != nil {
		return col, err
	}
	for _, entry := range entries {
		if err := col.add(filepath.Join(dir, entry.Name())); err != nil {
			return col, err
		}
	}
	return col, nil
}

func (col *gpuCollateral) add(name string) (err error) {
	var data []byte
	switch ext := filepath.Ext(name); {
	case filepath.Base(name) == "chain.pem":
		if col.chain, err = readAtMost(name, gpu.MaxChain); err != nil {
			return err
		}
		if _, err := gpu.ParseChain(col.chain); err != nil {
			return gpuVerdict(fmt.Errorf("%s: %w", name, err), gpu.BadChain)
		}
	case ext == ".der":
		if data, err = readAtMost(name, gpu.MaxOCSP); err != nil {
			return err
		}
		if _, err := ocsp.ParseResponse(data, nil); err != nil { // who signed it is judged later
			return gpuVerdict(fmt.Errorf("%s: want an OCSP response in DER: %w", name, err), gpu.BadOCSP)
		}
		col.ocsp = append(col.ocsp, data)
	case ext == ".swidtag" || ext == ".xml":
		if data, err = readAtMost(name, gpu.MaxRIM); err != nil {
			return err
		}
		r, err := gpu.ParseRIM(data)
		if err != nil {
			return gpuVerdict(fmt.Errorf("%s: %w", name, err), gpu.BadRIM)
		}
		col.rims, col.files = append(col.rims, r), append(col.files, data)
	default:
		return fmt.Errorf("%s: want *.swidtag, *.xml, *.der and chain.pem only", name)
	}
	return err
}

// gpuVerdict gives an error the exit code of its reason.
func gpuVerdict(err error, otherwise gpu.Reason) error {
	reason := otherwise
	var ge *gpu.Error
	if errors.As(err, &ge) {
		reason = ge.Reason
	}
	code := exitAppraisal
	if reason.Unverified() {
		code = exitUnverified
	}
	return verdict(code, string(reason), "%w", err)
}

// gpuOpen reads what both commands need.
func gpuOpen(c *cli.Context, data []byte) ([]gpu.Device, gpuCollateral, error) {
	col, err := readGPUCollateral(c.String("collateral"))
	if err != nil {
		return nil, col, err
	}
	if gpu.IsShipment(data) {
		s, err := gpu.ParseShipment(data)
		var set *gpu.Set
		if err == nil && col.chain != nil {
			err = errors.New("it holds its certificates: want no chain.pem beside it")
		}
		if err == nil {
			set, err = gpu.ParseSet(s.Document)
		}
		if err == nil {
			var rims []*gpu.RIM
			rims, err = gpu.ParseRIMs(s.RIMs...)
			col.rims, col.ocsp = append(col.rims, rims...), append(col.ocsp, s.OCSP...)
		}
		if err != nil {
			return nil, col, gpuVerdict(fmt.Errorf("%s: %w", c.Args().First(), err), gpu.BadReport)
		}
		col.driver = &set.Driver
		return set.Devices, col, nil
	}
	chain := col.chain
	if chain == nil && !bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) && !c.IsSet("collateral") {
		return nil, col, fmt.Errorf("%s: evidence: a bare report needs its certificate chain: want --collateral DIR with chain.pem, leaf first", c.Args().First())
	}
	devices, err := gpu.ParseEvidence(data, chain)
	if err != nil {
		err = fmt.Errorf("%s: %w", c.Args().First(), err)
		if ge := (*gpu.Error)(nil); errors.As(err, &ge) {
			err = gpuVerdict(err, ge.Reason)
		}
	}
	return devices, col, err
}

// gpuNonce reads --nonce.
func gpuNonce(c *cli.Context) (*[32]byte, error) {
	if !c.IsSet("nonce") {
		return nil, nil
	}
	b, err := hex.DecodeString(c.String("nonce"))
	if err != nil || len(b) != 32 {
		return nil, usagef("--nonce %.80q: want 64 hexadecimal digits", c.String("nonce"))
	}
	n := [32]byte(b)
	return &n, nil
}
