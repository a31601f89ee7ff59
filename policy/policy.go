// Package policy reads the file in which a relying party says whom it trusts (tally.policy/v1):
//
//	schema: tally.policy/v1
//	release:
//	  signers:                       # who may sign releases; at least one, or one of identities
//	    - file: cosign.pub           # or  pem: |  with the key itself
//	      not-before: "2026-01-01T00:00:00Z"   # optional
//	      not-after: "2027-01-01T00:00:00Z"    # optional
//	  identities:                    # who may sign with a certificate; see release.Identity
//	    - issuer: https://token.actions.githubusercontent.com
//	      repository: https://github.com/acme/enclave
//	      workflow: .github/workflows/release.yml
//	      tag: v*                    # "*" is one or more characters other than "/"; nothing else is special
//	      commit: "*"
//	      not-before: "2026-01-01T00:00:00Z"   # optional, as a signer's: when it signed and now
//	      not-after: "2027-01-01T00:00:00Z"    # optional
//	    - issuer: https://accounts.example
//	      subject: release@acme.example   # in place of repository, workflow, tag and commit
//	  trusted-root: trusted_root.json     # Sigstore trusted root: who gives certificates and timestamps
//	  log:
//	    vkey: log.example+1234abcd+AbCd…     # or  file: log.vkey
//	    witness-policy: witnesses.txt   # C2SP tlog-policy: who must have cosigned the log's checkpoints
//	    cosignature-max-age: 168h    # optional: how long ago, on the newest checkpoint at hand
//	    witnesses: none              # in place of the two above; every result then warns
//	    from: https://log.example/   # optional: URL or directory that gives consistency proofs
//	  channel:                       # optional: want a channel statement beside every release
//	    name: stable
//	    max-age: 168h                # how old the statement may be
//	    signers: […]                 # as above; default: who may sign releases
//	  rebuilders:                    # optional: others who built the release and came to the same bytes
//	    need: 2                      # of keys and identities; 0: none, but a mismatch by one of them refuses
//	    keys: […]                    # as signers, and none of them
//	    identities: […]              # optional: as above, and none of them; each names one signer
//	    logs: […]                    # optional: each as log; where rebuilders log, beside the releases' log
//	  oci-manifest: require          # optional: a release names the manifest under which registries have it
//	  other-wires: refuse            # optional: an enclave is reached by tally/1 alone; without it a result names the others
//	  revocation-keys: […]           # optional: as signers; keys that revoke and do nothing else
//	  revocation-identities: […]     # optional: the same by certificates; each names one signer
//	evidence:
//	  platforms: [snp, tdx]          # which evidence a client accepts; no default: insecure, vtpm-unendorsed, vtpm-azure, vtpm-svsm, snp, tdx
//	  freshness: session             # unless only insecure: session, key or none; what must show that evidence is new
//	  freshness-max-age: 36h         # with freshness key: how long ago the quorum of release.log's witness-policy had
//	                                 # cosigned the checkpoint in the key evidence; a key is used for 24 hours
//	  reappraise: 10m                # optional, 1h by default, up to 24h: how old an appraisal may be when something is sent in an
//	                                 # open session; evidence is taken anew then, and a session that is not accepted again ends
//	  snp:                           # with platform snp; debugging and migration are never accepted
//	    tcb: [{product: Milan, boot-loader: 4, tee: 0, snp: 24, microcode: 219}]   # floors; Milan and Genoa
//	    firmware: "1.55"             # lowest version of the AMD-SP's firmware
//	    signers: [vcek]              # vcek, vlek or both
//	    vmpl: 0
//	    smt: allow                   # or refuse: hyper-threads of the machine
//	    alias-check: require         # or ignore: ALIAS_CHECK_COMPLETE
//	    revocation-list: require     # or ignore: AMD's list beside the report
//	    chips: [any]                 # or CHIP_IDs
//	    guest-svn: 0                 # optional: lowest
//	    host-data: 00…               # optional: HOST_DATA; zero by default
//	    id-keys: [any]               # optional: keys of ID blocks; by default there must be no ID block
//	    roots: fake.pem              # for tests: ARK, ASK and ASVK in place of AMD's
//	  tdx:                           # with platform tdx; debugging is never accepted, SEPT_VE_DISABLE is wanted
//	    tcb-evaluation-number: 18    # lowest of Intel's collateral, which must say UpToDate
//	    tee-tcb-svn: 07010600…       # floor, each byte on its own
//	    pce-svn: 11                  # floor
//	    mrseam: [any]                # or TDX modules
//	    attributes: ["0000001000000000"]
//	    xfam: [e702060000000000]
//	    ppids: [any]                 # or platforms
//	    mrconfigid: 00…              # optional, zero by default; so are mrowner, mrownerconfig, mrservicetd
//	    root: fake.pem               # for tests: in place of Intel's
//	  vtpm:                          # with platform vtpm-unendorsed: SHA-256 PCRs of the firmwares allowed
//	    pcr0: [3d45…]
//	    pcr2: [3d45…]
//	  vtpm-azure:                    # with platform vtpm-azure: the TPM of an Azure confidential VM on SEV-SNP
//	    paravisors: [94e1…]          # launch digests of Azure's paravisor, which keeps the TPM and is trusted with it
//	    pcr0: [3d45…]                # SHA-256 PCRs of the firmwares allowed
//	    pcr2: [3d45…]
//	    snp: …                       # as above, of the report that names the TPM's key; vmpl must be 0
//	  vtpm-svsm:                     # with platform vtpm-svsm: a TPM that an SVSM keeps, beneath a guest on SEV-SNP
//	    svsms: [94e1…]               # launch digests of SVSM and firmware ('tally measure snp'), which keep VMPL 0 to themselves
//	    pcr0: [3d45…]                # and the rest as for vtpm-azure
//	    pcr2: [3d45…]
//	    snp: …
//	gpu: …                           # optional: [GPU]; evidence that binds GPUs is refused without it, and such that binds none with it
//
// The reader is strict: an unknown key, a key twice, a second document, an anchor or a value of another
// kind is an error with its file, line and column. Files are taken relative to the policy's directory. What is
// left out is trusted to nobody: an empty policy is valid and rejects everything.
package policy

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tally/internal/strictyaml"
	"tally/release"
)

const (
	// Schema is the value of the file's first key.
	Schema = "tally.policy/v1"

	// MaxSize is the size in bytes above which a policy, or a file that it names, is refused unread.
	MaxSize = 1 << 20
)

// A Policy is what the file says.
type Policy struct {
	Release release.Policy
	LogFrom string // where the log can be asked for consistency proofs: a URL or a directory; empty: nowhere

	RebuildsFrom []string // where the rebuilders' own logs are published

	Evidence Evidence
	GPU      *GPU // nil: no GPU is accepted
}

// Load reads the policy file at path.
func Load(path string) (*Policy, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return Parse(data, path, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		return readFile(name)
	})
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%s: larger than %d bytes", path, MaxSize)
	}
	return data, err
}

// The file as it stands.
type fileYAML struct {
	Schema   string        `yaml:"schema,required"`
	Release  *releaseYAML  `yaml:"release"`
	Evidence *evidenceYAML `yaml:"evidence"`
	GPU      *gpuYAML      `yaml:"gpu"`
}

type releaseYAML struct {
	Signers     []signerYAML   `yaml:"signers"`
	Identities  []identityYAML `yaml:"identities"`
	TrustedRoot string         `yaml:"trusted-root"`
	OCIManifest string         `yaml:"oci-manifest"`
	OtherWires  string         `yaml:"other-wires"`
	Log         *logYAML       `yaml:"log"`
	Channel     *channelYAML   `yaml:"channel"`

	Rebuilders *rebuildersYAML `yaml:"rebuilders"`
	Revokers   []signerYAML    `yaml:"revocation-keys"`

	RevokerIdentities []identityYAML `yaml:"revocation-identities"`
}

type channelYAML struct {
	Name    string       `yaml:"name,required"`
	MaxAge  string       `yaml:"max-age,required"`
	Signers []signerYAML `yaml:"signers"`
}

type signerYAML struct {
	PEM       string `yaml:"pem"`
	File      string `yaml:"file"`
	NotBefore string `yaml:"not-before"`
	NotAfter  string `yaml:"not-after"`
}

type logYAML struct {
	VKey      string `yaml:"vkey"`
	File      string `yaml:"file"`
	Witnesses string `yaml:"witnesses"`
	Policy    string `yaml:"witness-policy"`
	MaxAge    string `yaml:"cosignature-max-age"`
	From      string `yaml:"from"`
}

// Parse reads a policy; name stands in error messages, read opens the key files that the policy names.
func Parse(data []byte, name string, read func(name string) ([]byte, error)) (*Policy, error) {
	var f fileYAML
	if err := strictyaml.Unmarshal(data, name, &f); err != nil {
		return nil, err
	}
	at, err := strictyaml.Locate(data, name)
	if err != nil {
		return nil, err
	}
	r := &reader{name: name, at: at, read: read}
	if f.Schema != Schema {
		r.fail("schema", "schema %.64q, want %q", f.Schema, Schema)
	}
	p := new(Policy)
	if f.Release != nil {
		p.Release.Signers = r.signers(f.Release.Signers, "release.signers")
		if f.Release.Log != nil {
			p.Release.Log = r.log(f.Release.Log, "release.log")
			p.LogFrom = f.Release.Log.From
		}
		if f.Release.Channel != nil {
			p.Release.Channel = r.channel(f.Release.Channel, "release.channel")
		}
		p.Release.Revokers = r.signers(f.Release.Revokers, "release.revocation-keys")
		if f.Release.Rebuilders != nil {
			r.rebuilders(f.Release.Rebuilders, "release.rebuilders", p)
		}
		r.identities(f.Release, &p.Release)
		if p.Release.OCIManifest = f.Release.OCIManifest != ""; p.Release.OCIManifest && f.Release.OCIManifest != "require" {
			r.fail("release.oci-manifest", "oci-manifest %.64q: want require", f.Release.OCIManifest)
		}
		if p.Release.RefuseWires = f.Release.OtherWires != ""; p.Release.RefuseWires && f.Release.OtherWires != "refuse" {
			r.fail("release.other-wires", "other-wires %.64q: want refuse", f.Release.OtherWires)
		}
	}
	if f.Evidence != nil {
		p.Evidence = r.evidence(f.Evidence, &p.Release.Log)
	}
	if f.GPU != nil {
		p.GPU = r.gpu(f.GPU, "gpu")
	}
	if r.err != nil {
		return nil, r.err
	}
	return p, nil
}

// A reader turns values into keys and times; the first error stays.
type reader struct {
	name string
	at   strictyaml.Positions
	read func(string) ([]byte, error)
	err  error
}

func (r *reader) fail(path, format string, args ...any) {
	if r.err == nil {
		r.err = r.at.Error(r.name, path, format, args...)
	}
}

func (r *reader) signers(list []signerYAML, path string) (out []release.Signer) {
	for i := range list {
		out = append(out, r.signer(&list[i], fmt.Sprintf("%s.%d", path, i)))
	}
	return out
}

func (r *reader) channel(y *channelYAML, path string) release.ChannelPolicy {
	c := release.ChannelPolicy{Name: y.Name, Signers: r.signers(y.Signers, path+".signers")}
	if !release.ValidLabel(y.Name) {
		r.fail(path+".name", "channel %.64q: want letters, digits and ._+~- beginning with a letter or digit", y.Name)
	}
	var err error
	if c.MaxAge, err = time.ParseDuration(y.MaxAge); err != nil || c.MaxAge <= 0 {
		r.fail(path+".max-age", "age %.64q: want a time such as \"168h\"", y.MaxAge)
	}
	return c
}

func (r *reader) signer(y *signerYAML, path string) release.Signer {
	s := release.Signer{NotBefore: r.time(y.NotBefore, path+".not-before"), NotAfter: r.time(y.NotAfter, path+".not-after")}
	text := r.inlineOrFile(y.PEM, y.File, "pem", path)
	if r.err != nil {
		return s
	}
	var err error
	if s.Key, err = release.ParsePublicKey([]byte(text)); err != nil {
		r.fail(path, "%v", err)
	}
	return s
}

func (r *reader) log(y *logYAML, path string) (p release.LogPolicy) {
	if y.Witnesses != "" && y.Witnesses != "none" {
		r.fail(path+".witnesses", "witnesses %.64q: want none; witnesses are named by a file under witness-policy", y.Witnesses)
	}
	p.Unwitnessed = y.Witnesses == "none"
	text := strings.TrimSuffix(r.inlineOrFile(y.VKey, y.File, "vkey", path), "\n")
	if r.err != nil {
		return p
	}
	var err error
	if p.Key, err = release.ParseLogKey(text); err != nil {
		r.fail(path, "%v", err)
	}
	r.witnesses(y, path, &p)
	return p
}

// witnesses reads the rule about who must have cosigned.
func (r *reader) witnesses(y *logYAML, path string, p *release.LogPolicy) {
	if y.MaxAge != "" {
		var err error
		if p.MaxAge, err = time.ParseDuration(y.MaxAge); err != nil || p.MaxAge <= 0 || y.Policy == "" {
			r.fail(path+".cosignature-max-age", "age %.64q: want a time such as \"168h\", beside a witness-policy", y.MaxAge)
		}
	}
	if r.err != nil || y.Policy == "" {
		return
	}
	if p.Unwitnessed {
		r.fail(path+".witness-policy", "want either \"witness-policy\" or \"witnesses: none\"")
		return
	}
	data, err := r.read(y.Policy)
	if err != nil {
		r.fail(path+".witness-policy", "%v", err)
		return
	}
	w, err := release.ParseWitnessPolicy(data, y.Policy)
	switch {
	case err != nil:
		r.fail(path+".witness-policy", "%v", err)
	case w.Quorum.IsZero():
		r.fail(path+".witness-policy", "%s: quorum none: say \"witnesses: none\" here, so that it is seen", y.Policy)
	case len(w.Logs) > 0 && !slices.ContainsFunc(w.Logs, func(k release.LogKey) bool { return k.String() == p.Key.String() }):
		r.fail(path+".witness-policy", "%s: is about other logs than %s", y.Policy, p.Key.Origin())
	default:
		p.Quorum = w.Quorum
	}
}

func (r *reader) platforms(names []string, path string) []string {
	for i, name := range names {
		if name == "" || slices.Contains(names[:i], name) {
			r.fail(fmt.Sprintf("%s.%d", path, i), "platform %.64q: want each name once, and none empty", name)
		}
	}
	return names
}

func (r *reader) time(s, path string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.fail(path, "time %.64q: want RFC 3339, such as \"2027-01-01T00:00:00Z\"", s)
	}
	return t
}

// inlineOrFile returns what stands under exactly one of two keys: the text itself, or a file's.
func (r *reader) inlineOrFile(inline, file, key, path string) string {
	if (inline == "") == (file == "") {
		r.fail(path, "want either %q or \"file\"", key)
	}
	if r.err != nil || inline != "" {
		return inline
	}
	data, err := r.read(file)
	if err != nil {
		r.fail(path+".file", "%v", err)
	}
	return string(data)
}
