package sign_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

const claims = `schema: tally.claims/v1
floors:
  snp: {bootloader: 4, tee: 0, snp: 23, microcode: 213}
  tdx: {tee-tcb-svn: "0d010800000000000000000000000000"}
gpu-rims:
  - {name: vbios, file: rim}
  - {name: driver, sha256: "abababababababababababababababababababababababababababababababab"}
`

func readRIM(name string) ([]byte, error) {
	if name != "rim" {
		return nil, os.ErrNotExist
	}
	return []byte("rim"), nil
}

// A statement carries the claims, the models and the toolchains of the manifest, and comes back as it was.
func TestClaims(t *testing.T) {
	w := &rt.World{Out: rt.Out(t), Key: rt.Key(t)}
	changeManifest(t, w.Out, func(m map[string]any) {
		verity := m["verity"]
		if err := os.WriteFile(filepath.Join(w.Out, "model-w.raw"), []byte("weights"), 0o644); err != nil {
			t.Fatal(err)
		}
		sum, size, err := sign.HashFile(t.Context(), filepath.Join(w.Out, "model-w.raw"))
		if err != nil {
			t.Fatal(err)
		}
		m["models"] = []any{map[string]any{"name": "w", "file": "model-w.raw", "mount": "models/w", "verity": verity}}
		m["config"] = map[string]any{"path": "etc/tally/enclave.json", "sha256": sum}
		m["artifacts"] = append(m["artifacts"].([]any), map[string]any{"name": "model-w.raw", "role": "model", "sha256": sum, "size": size})
		m["inputs"] = []any{map[string]any{"kind": "toolchain", "name": "go1.26.8", "version": "linux-amd64", "sha256": sum, "verified": "hash"},
			map[string]any{"kind": "package", "name": "libc6", "version": "1", "sha256": sum, "size": 7, "verified": "index"}}
	})
	c, err := sign.ParseClaims([]byte(claims), "claims.yaml", readRIM)
	if err != nil {
		t.Fatal(err)
	}
	earlier := release.Digest{1}
	s := w.Statement(t, sign.Options{Sequence: 1, Claims: c, Supersedes: []release.Digest{earlier}, SourceRepository: "https://example.org/r", SourceCommit: strings.Repeat("1", 40)})
	payload, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := release.ParseStatement(payload)
	if err != nil {
		t.Fatal(err)
	}
	p := got.Predicate
	if p.Floors.SNP.Microcode != 213 || p.Floors.TDX.TEETCBSVN[:4] != "0d01" || p.GPURIMs[0].Name != "driver" || p.GPURIMs[1].SHA256.String()[:8] != "1569ec5b" ||
		len(p.Models) != 1 || p.Models[0].Verity != p.Verity || p.Supersedes[0] != earlier ||
		len(p.BuildEnvironment.Toolchains) != 1 || p.BuildEnvironment.SourceDateEpoch != rt.Epoch {
		t.Errorf("%+v", p)
	}
	checkProvenance(t, w, got)
}

// checkProvenance reads the provenance with in-toto's own types, which refuse unknown fields, and their checks.
func checkProvenance(t *testing.T, w *rt.World, s *release.Statement) {
	t.Helper()
	out, err := sign.ReadOut(t.Context(), w.Out)
	if err != nil {
		t.Fatal(err)
	}
	data, err := out.Provenance(s)
	if err != nil {
		t.Fatal(err)
	}
	var st intoto.Statement
	if err := protojson.Unmarshal(data, &st); err != nil {
		t.Fatal(err)
	}
	if err := st.Validate(); err != nil {
		t.Error(err)
	}
	if len(st.Subject) != len(s.Subject) || st.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("%d subjects of type %q", len(st.Subject), st.PredicateType)
	}
	raw, err := protojson.Marshal(st.Predicate)
	if err != nil {
		t.Fatal(err)
	}
	var p provenancev1.Provenance
	if err := protojson.Unmarshal(raw, &p); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	got := map[string]string{}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		for alg := range d.Digest {
			got[d.Name] = alg
		}
	}
	want := map[string]string{"": "gitCommit", "image.yaml": "sha256", "image.lock": "sha256", "sources.tar": "sha256", "go1.26.8": "dirHash", "libc6": "sha256"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	b, err := sign.Provenance(data, w.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := release.VerifyEnvelope(b, w.Key.Public()); err != nil {
		t.Error(err)
	}
}

func TestClaimsRefused(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"claims/v1", "claims/v2", "claims.yaml:1:9: schema"},
		{"snp: 23", "snp: 256", "want 0 to 255"},
		{"bootloader: 4, ", "", "bootloader"},
		{"microcode", "microkode", `unknown key "microkode"`},
		{"file: rim", "file: none", "file does not exist"},
		{"file: rim", `file: rim, sha256: "00"`, "want either"},
		{`"abab`, `"`, "want 64 lower-case hex digits"},
	} {
		_, err := sign.ParseClaims([]byte(strings.Replace(claims, c.old, c.new, 1)), "claims.yaml", readRIM)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, want %q", c.new, c.old, err, c.want)
		}
	}
	w := &rt.World{Out: rt.Out(t)}
	out, err := sign.ReadOut(t.Context(), w.Out)
	if err != nil {
		t.Fatal(err)
	}
	for want, opt := range map[string]sign.Options{
		"floors: names no platform": {Claims: sign.Claims{Floors: &release.Floors{}}},
		"want 32 lower-case hex":    {Claims: sign.Claims{Floors: &release.Floors{TDX: &release.TDXFloor{TEETCBSVN: "0D"}}}},
		"gpuRims":                   {Claims: sign.Claims{GPURIMs: []release.RIM{{Name: "a"}, {Name: "a"}}}},
		"supersedes":                {Supersedes: []release.Digest{{2}, {1}}},
	} {
		opt.Sequence = 1
		if _, err := out.Statement(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func changeManifest(t *testing.T, out string, change func(map[string]any)) {
	t.Helper()
	name := filepath.Join(out, release.Manifest)
	data, err := os.ReadFile(name)
	var m map[string]any
	if err := errors.Join(err, json.Unmarshal(data, &m)); err != nil {
		t.Fatal(err)
	}
	change(m)
	data, err = json.MarshalIndent(m, "", "  ")
	if err := errors.Join(err, os.WriteFile(name, append(data, '\n'), 0o644)); err != nil {
		t.Fatal(err)
	}
}
