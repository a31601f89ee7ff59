package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"time"

	"tally/internal/cli"
	"tally/release"
	"tally/release/publish/oci"
	"tally/release/sign"
)

func releaseSignCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "sign", Usage: "sign the statement about a built and measured image", ArgsUsage: "OUT",
		Flags: append(append(passwordFlags(), keylessFlags()...),
			&cli.StringFlag{Name: "key", Usage: "signing key: a `FILE` (tally release keygen, cosign generate-key-pair) or NAME://ID"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the bundle to `BUNDLE`"},
			&cli.BoolFlag{Name: "oci", Usage: "also name the manifest under which a container registry gets the files (OUT/oci-manifest.json)"},
			&cli.Uint64Flag{Name: "sequence", Value: 1, Usage: "`NUMBER` that grows with every release of this name"},
			&cli.StringFlag{Name: "source-repo", Usage: "`URL` of the repository the image comes from"},
			&cli.StringFlag{Name: "source-commit", Usage: "its `COMMIT`, in hex"},
			&cli.StringFlag{Name: "valid-from", Usage: "`TIME` (RFC 3339) from which the release is valid (default: the image's epoch)"},
			&cli.StringFlag{Name: "valid-until", Usage: "`TIME` (RFC 3339) at which it expires (default: never)"},
			&cli.StringFlag{Name: "claims", Usage: "`FILE` (tally.claims/v1) with security version floors and GPU RIMs"},
			&cli.StringSliceFlag{Name: "supersedes", Usage: "`BUNDLE` of an earlier release, or its payload's SHA-256 (several times)"},
			&cli.StringFlag{Name: "provenance", Usage: "also sign SLSA provenance v1 about the same files and write its bundle to `FILE`"},
		),
		Description: "Every artefact of OUT is hashed again and must be what manifest.json says; reference-values.json comes from\n" +
			"'tally measure image'. The statement depends on bytes and flags alone, and the signature of a key file is deterministic: signing twice gives one\n" +
			"bundle. The bundle is not logged yet: 'tally release publish' does that.\n" + passwordHelp +
			"\nFILE of --claims is strict YAML: schema: tally.claims/v1; floors: {snp: {bootloader, tee, snp, microcode, fmc}, tdx: {tee-tcb-svn}};\n" +
			"gpu-rims: a list of name and either file or sha256.\n" +
			"\n" + keyRefHelp + "\n" + keylessHelp +
			"\n--json prints tally.release/v1: bundle, payload_sha256, key_id, identity (with --keyless: issuer, subject, repository, ref, commit,\n" +
			"build_config, signed, certificate_logged), name, version, sequence, subjects (list of name, sha256).\n\n" +
			"   tally release sign OUT --key cosign.key -o minimal.sigstore.json\n" +
			"   tally release sign OUT --keyless --fulcio-url https://fulcio.sigstore.dev --tsa-url https://timestamp.sigstore.dev/api/v1/timestamp \\\n" +
			"      --trusted-root trusted_root.json -o minimal.sigstore.json",
		Action: func(c *cli.Context) error { return releaseSign(c, e) },
	}
}

// A releaseAnswer is tally.release/v1, what sign and publish print.
type releaseAnswer struct {
	Schema   string             `json:"schema"`
	Bundle   string             `json:"bundle"`
	Payload  release.Digest     `json:"payload_sha256"`
	KeyID    release.Digest     `json:"key_id"`
	Identity *release.Certified `json:"identity,omitempty"`
	Name     string             `json:"name"`
	Version  string             `json:"version"`
	Sequence uint64             `json:"sequence"`
	Subjects []subjectAnswer    `json:"subjects"`
	Log      *loggedAnswer      `json:"log,omitempty"`

	Registry *oci.Pushed `json:"registry,omitempty"`
}

type subjectAnswer struct {
	Name   string         `json:"name"`
	SHA256 release.Digest `json:"sha256"`
}

type loggedAnswer struct {
	Origin  string         `json:"origin"`
	Index   int64          `json:"index"`
	Size    int64          `json:"tree_size"`
	Leaf    release.Digest `json:"leaf_hash"`
	Path    string         `json:"path"`
	Already bool           `json:"already_published"`
}

func newReleaseAnswer(path string, b *release.Bundle, k release.PublicKey, s *release.Statement) releaseAnswer {
	r := s.Predicate.Release
	a := releaseAnswer{
		Schema: "tally.release/v1", Bundle: path, Payload: release.PayloadDigest(b), KeyID: k.ID(),
		Name: r.Name, Version: r.Version, Sequence: r.Sequence,
	}
	for _, sub := range s.Subject {
		a.Subjects = append(a.Subjects, subjectAnswer{sub.Name, sub.Digest.SHA256})
	}
	return a
}

func releaseSign(c *cli.Context, e *env) error {
	if err := wantArgs(c, "OUT"); err != nil {
		return err
	}
	if err := checkSigner(c, "output"); err != nil {
		return err
	}
	out, s, err := makeStatement(c, e)
	if err != nil {
		return err
	}
	seal, err := newSealer(c, e)
	if err != nil {
		return err
	}
	b, data, who, err := seal.bundle(s.Marshal())
	if err != nil {
		return err
	}
	if s, err = release.ParseStatement(b.Envelope.Payload); err != nil { // what was signed, in its one form
		return err
	}
	provenance, err := signProvenance(c, out, s, seal)
	if err != nil {
		return err
	}
	if err := writeAll(provenance, output{c.String("output"), data}); err != nil {
		return err
	}
	a := newReleaseAnswer(c.String("output"), b, who.key, s)
	a.Identity = who.identity
	return printSigned(e, a)
}

// makeStatement says what the flags and the bytes of OUT say.
func makeStatement(c *cli.Context, e *env) (*sign.Out, *release.Statement, error) {
	opt, err := signOptions(c, e)
	if err != nil {
		return nil, nil, err
	}
	if c.Bool("oci") {
		if err := sign.WriteOCI(c.Context, c.Args().First()); err != nil {
			return nil, nil, err
		}
	}
	out, err := sign.ReadOut(c.Context, c.Args().First())
	if err != nil {
		return nil, nil, err
	}
	s, err := out.Statement(opt)
	return out, s, err
}

func printSigned(e *env, a releaseAnswer) error {
	if e.json {
		return e.printJSON(a)
	}
	for _, sub := range a.Subjects {
		e.printf("%s  %s\n", sub.SHA256, sub.Name)
	}
	e.printf("signed %s %s (sequence %d) with %s\nbundle %s (not logged yet)\n", a.Name, a.Version, a.Sequence, signedBy(a.KeyID, a.Identity), a.Bundle)
	return nil
}

// signProvenance makes the file of --provenance.
func signProvenance(c *cli.Context, out *sign.Out, s *release.Statement, seal sealer) (output, error) {
	if !c.IsSet("provenance") {
		return output{}, nil
	}
	_, data, _, err := seal.bundle(out.Provenance(s))
	return output{c.String("provenance"), data}, err
}

// claimsFile reads --claims; files that it names lie beside it.
func claimsFile(name string) (sign.Claims, error) {
	const limit = 16 << 20
	data, err := readSmall(name, limit)
	if err != nil {
		return sign.Claims{}, err
	}
	return sign.ParseClaims(data, name, func(file string) ([]byte, error) {
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(name), file)
		}
		return readSmall(file, limit)
	})
}

// payloadArg reads the digest of a release's payload: given as such, or as its bundle.
func payloadArg(e *env, arg string) (release.Digest, error) {
	d, err := release.ParseDigest(arg)
	if err != nil {
		_, d, err = readStatement(e, arg)
	}
	return d, err
}

func signOptions(c *cli.Context, e *env) (sign.Options, error) {
	opt := sign.Options{Sequence: c.Uint64("sequence"), SourceRepository: c.String("source-repo"), SourceCommit: c.String("source-commit")}
	for _, f := range []struct {
		flag string
		to   *time.Time
	}{{"valid-from", &opt.NotBefore}, {"valid-until", &opt.NotAfter}} {
		if !c.IsSet(f.flag) {
			continue
		}
		t, err := time.Parse(time.RFC3339, c.String(f.flag))
		if err != nil {
			return opt, usagef("--%s %q: want RFC 3339, such as 2027-01-01T00:00:00Z", f.flag, c.String(f.flag))
		}
		*f.to = t
	}
	for _, arg := range c.StringSlice("supersedes") {
		d, err := payloadArg(e, arg)
		if err != nil {
			return opt, err
		}
		opt.Supersedes = append(opt.Supersedes, d)
	}
	slices.SortFunc(opt.Supersedes, func(a, b release.Digest) int { return bytes.Compare(a[:], b[:]) })
	opt.Supersedes = slices.Compact(opt.Supersedes)
	var err error
	if name := c.String("claims"); name != "" {
		opt.Claims, err = claimsFile(name)
	}
	return opt, err
}
