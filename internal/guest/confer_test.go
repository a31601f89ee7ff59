package guest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const conferConfig = `{"schema": "tally.enclave-config/v1", "hostname": "a", "listen": ":7443", "operator": ":9090", "attesters": ["snp", "tdx"],
	"engine": {"command": ["/e"], "uid": 990}, "confer": {"listen": ":7444", "context-tokens": 4096}}`

func TestConfer(t *testing.T) {
	c, err := ParseConfig([]byte(conferConfig))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&Confer{Listen: netip.MustParseAddrPort("0.0.0.0:7444"), ContextTokens: 4096}, c.Confer, compareNetip); d != "" || len(c.Wires()) != 1 || c.Wires()[0] != "confer" {
		t.Errorf("%s, wires %q", d, c.Wires())
	}
	all := strings.NewReplacer(`4096}`, `4096, "manifest": "http://10.0.2.2:1/m", "manifest-bundle": "http://10.0.2.2:1/b", "insecure-attesters": true}`, `["snp", "tdx"]`, `["snp", "insecure"]`)
	if c, err = ParseConfig([]byte(all.Replace(conferConfig))); err != nil {
		t.Fatal(err)
	}
	want := &Confer{Listen: netip.MustParseAddrPort("0.0.0.0:7444"), ContextTokens: 4096, Manifest: "http://10.0.2.2:1/m", ManifestBundle: "http://10.0.2.2:1/b", Insecure: true}
	if d := cmp.Diff(want, c.Confer, compareNetip); d != "" {
		t.Error(d)
	}
	if c, err = ParseConfig([]byte(goodConfig)); err != nil || c.Confer != nil || c.Wires() != nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestConferRefused(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`{"listen": ":7444", "context-tokens": 4096}`, `true`, "confer.want a JSON object"},
		{`"listen": ":7444", `, ``, `no key "confer.listen"`},
		{`, "context-tokens": 4096`, ``, `no key "confer.context-tokens"`},
		{`"context-tokens"`, `"path": "/", "context-tokens"`, `unknown key "confer.path"`},
		{`:7444`, `:7443`, "another port than listen and operator"},
		{`:7444`, `:9090`, "another port than listen and operator"},
		{`:7444`, `:0`, "confer.listen"},
		{`:7444`, `7444`, "confer.listen"},
		{`4096`, `0`, "confer.context-tokens: want a whole number"},
		{`4096`, `"4096"`, "confer.context-tokens: want a whole number"},
		{`4096`, `4096, "insecure-attesters": false`, "confer.insecure-attesters: want true"},
		{`4096`, `4096, "manifest": "http://10.0.2.2:1/m"`, "want manifest and manifest-bundle, or neither"},
		{`4096`, `4096, "manifest": "http://10.0.2.2:1/m", "manifest-bundle": "/b"`, "confer.manifest-bundle"},
		{`4096`, `4096, "manifest": "https://10.0.2.2:1/m", "manifest-bundle": "http://10.0.2.2:1/b"`, "confer.manifest "},
		{`"engine": {"command": ["/e"], "uid": 990}, `, ``, "want an engine"},
		{`"tdx"]`, `"insecure"]`, `beside the attester "insecure"`},
		{`"tdx"]`, `"vtpm-unendorsed"]`, `beside the attester "vtpm-unendorsed"`},
		{`"tdx"]`, `"vtpm-azure"]`, `beside the attester "vtpm-azure"`},
		{`"confer"`, `"gpu": ` + goodGPU + `, "confer"`, "no evidence of GPUs"},
	} {
		in := strings.Replace(conferConfig, c.old, c.new, 1)
		if in == conferConfig {
			t.Fatalf("%q is not in the configuration", c.old)
		}
		if got, err := ParseConfig([]byte(in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %+v, %v, want %q", c.new, c.old, got, err, c.want)
		}
	}
}
