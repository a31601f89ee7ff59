package gpu

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRIMForm holds manifests to their form, whoever signed them.
func TestRIMForm(t *testing.T) {
	good := string(read(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	from, to := strings.Index(good, "<ns0:Meta "), strings.Index(good, "<ns0:Payload ")
	meta := strings.TrimSpace(good[from:to])
	from, to = strings.Index(good, "<ns0:Payload "), strings.Index(good, "</ns0:Payload>")+len("</ns0:Payload>")
	payload := good[from:to]
	tag := good[strings.Index(good, `tagId="`)+len(`tagId="`):]
	tag = tag[:strings.Index(tag, `"`)]
	for name, c := range map[string]struct{ old, new, want string }{
		"another tag":                {"SoftwareIdentity", "SoftwareIdentities", "outermost element"},
		"another space of the tag":   {`<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"`, `<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2009/schema.xsd"`, "outermost element"},
		"no Meta":                    {meta, "", "no Meta or no Payload"},
		"no Payload":                 {payload, "", "no Meta or no Payload"},
		"Meta twice":                 {meta, meta + meta, `element "Meta"`},
		"Payload twice":              {payload, payload + payload, `element "Payload"`},
		"Meta of another space":      {meta, strings.Replace(meta, "<ns0:Meta ", "<ns2:Meta ", 1), `element "Meta"`},
		"Payload of another space":   {payload, strings.NewReplacer("<ns0:Payload ", "<ns2:Payload ", "</ns0:Payload>", "</ns2:Payload>").Replace(payload), `element "Payload"`},
		"something else":             {meta, meta + "<ns0:Evidence/>", `element "Evidence"`},
		"no product":                 {`product="GH100"`, `products="GH100"`, "want 1 to 128 bytes"},
		"empty product":              {`product="GH100"`, `product=""`, "want 1 to 128 bytes"},
		"no edition":                 {`edition="GPU"`, `editions="GPU"`, "want 1 to 128 bytes"},
		"no version":                 {`colloquialVersion="545.00"`, `version="545.00"`, "want 1 to 128 bytes"},
		"version of another space":   {`colloquialVersion="545.00"`, `ns1:colloquialVersion="545.00"`, "want 1 to 128 bytes"},
		"longest version":            {`colloquialVersion="545.00"`, `colloquialVersion="` + strings.Repeat("5", 128) + `"`, ""},
		"longer version":             {`colloquialVersion="545.00"`, `colloquialVersion="` + strings.Repeat("5", 129) + `"`, "want 1 to 128 bytes"},
		"no tagId":                   {`tagId="` + tag + `"`, "", "want 1 to 128 bytes"},
		"not a resource":             {"<ns0:Resource ", "<ns0:File ", `element "File", want Resource`},
		"resource of another space":  {"<ns0:Resource ", "<ns2:Resource ", `element "Resource", want Resource`},
		"something in a resource":    {`size="48"/>`, `size="48"><ns0:x/></ns0:Resource>`, `element "Resource", want Resource`},
		"another type":               {`type="Measurement"`, `type="File"`, `type "File"`},
		"no type":                    {`type="Measurement"`, ``, `type ""`},
		"index that is none":         {`index="1"`, `index="x"`, `index "x"`},
		"index below 0":              {`index="1"`, `index="-1"`, `index "-1"`},
		"first of several mistakes":  {`index="1" active="False" alternatives="1"`, `index="x" active="False" alternatives="0"`, `index "x"`},
		"no alternative":             {`alternatives="1"`, `alternatives="0"`, `alternatives "0"`},
		"too many alternatives":      {`alternatives="1"`, `alternatives="65"`, `alternatives "65"`},
		"hash of another space":      {`ns2:Hash0="`, `ns0:Hash0="`, "Hash0"},
		"hash cut":                   {`ns2:Hash0="00`, `ns2:Hash0="`, "want 96 hexadecimal digits"},
		"hash that is none":          {`ns2:Hash0="00`, `ns2:Hash0="0x`, "want 96 hexadecimal digits"},
		"hash of SHA-512":            {`ns2:Hash0="`, `ns2:Hash0="` + strings.Repeat("0", 32), "want 96 hexadecimal digits"},
		"active that is nothing":     {`active="False"`, ``, "True or False"},
		"an empty payload":           {payload, payload[:strings.Index(payload, ">")+1] + "</ns0:Payload>", "no active measurement"},
		"no measurement that counts": {payload, strings.ReplaceAll(payload, `active="True"`, `active="False"`), "no active measurement"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if c.old == "SoftwareIdentity" {
			text = strings.ReplaceAll(good, c.old, c.new)
		}
		if text == good {
			t.Errorf("%s: nothing replaced", name)
		}
		_, err := ParseRIM([]byte(text))
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "RIM: ")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestManifestTimes: before its signer's certificate is valid a manifest counts for nothing, and after its end only when it is pinned; then no
// response about that certificate is asked for, but about those above.
func TestManifestTimes(t *testing.T) {
	_, rims := production(t)
	r := rims[0]
	begin, end := r.SignedAfter(), r.SignerNotAfter()
	var above [][]byte
	for _, name := range []string{"driver_rim_l3", "rim_l2"} {
		der, err := base64.StdEncoding.DecodeString(string(read(t, "go-nvattest-tools/ocsp/test_gpu_"+name+"_base64encoded_ocsp_response.dat")))
		if err != nil {
			t.Fatal(err)
		}
		above = append(above, der)
	}
	for name, c := range map[string]struct {
		at           time.Time
		pinned, ocsp bool
		want         Reason
		ended        bool
	}{
		"before, pinned":            {begin.Add(-time.Second), true, false, RIMExpired, false},
		"before, any":               {begin.Add(-time.Second), false, false, RIMExpired, false},
		"at once":                   {begin, false, false, "", false},
		"at the end":                {end, false, false, "", false},
		"after, any":                {end.Add(time.Second), false, false, RIMExpired, false},
		"after, pinned":             {end.Add(time.Second), true, false, "", true},
		"before the end, responses": {end, true, true, BadOCSP, false},
		"after, responses":          {end.Add(time.Second), true, true, OCSPStale, true}, // of those above
	} {
		v := &verifier{in: Input{Roots: nvidia(t), Now: c.at, Policy: Policy{UnpinnedRIM: !c.pinned, NoOCSP: !c.ocsp, OCSPMaxAge: 1 << 62}}}
		if c.pinned {
			v.in.Policy.RIMs = [][32]byte{r.SHA256}
		}
		var err error
		if v.ocsp, err = indexResponses(above); err != nil {
			t.Fatal(err)
		}
		s := &rimState{rim: r}
		if err := v.checkManifest(s); reasonOf(err, "") != c.want || (err == nil) != (c.want == "") || s.ended != c.ended {
			t.Errorf("%s: %v, ended %v; want %q, %v", name, err, s.ended, c.want, c.ended)
		}
	}
}

// TestLeafKey: only a key on P-384 signs, whatever certificates say of another.
func TestLeafKey(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	caKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: now, NotAfter: now, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	make1 := func(template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, ca, public, caKey)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root := make1(ca, caKey.Public())
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	for name, public := range map[string]crypto.PublicKey{"": p384.Public(), "P-256": p256.Public(), "P-521": p521.Public(), "Ed25519": ed} {
		leaf := make1(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: now, NotAfter: now}, public)
		if _, err := new(memo).verifyChain([]*x509.Certificate{leaf}, root, now); (err == nil) != (name == "") || err != nil && !strings.Contains(err.Error(), "P-384") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestOrder: certificates come in the order in which they sign, each once, none left out, and none beside.
func TestOrder(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for n := 3; n <= 5; n++ {
		good := forge(t, n, now, func(int, *x509.Certificate) {})
		root := good[n-1]
		stranger := forge(t, 2, now, func(int, *x509.Certificate) {})[1]
		for name, c := range map[string][]*x509.Certificate{
			"": good, " root left out": good[:n-1], // which is no mistake
			"one left out":     slices.Concat(good[:1], good[2:]),
			"one twice":        slices.Concat(good[:2], good[1:]),
			"leaf twice":       slices.Concat(good[:1], good),
			"root twice":       slices.Concat(good, good[n-1:]),
			"first two turned": slices.Concat([]*x509.Certificate{good[1], good[0]}, good[2:]),
			"a stranger":       slices.Concat(good[:1], []*x509.Certificate{stranger}, good[1:]),
			"a stranger above": slices.Concat(good[:n-1], []*x509.Certificate{stranger}),
		} {
			_, err := new(memo).verifyChain(c, root, now)
			if (err == nil) != (strings.TrimPrefix(name, " root left out") == "") {
				t.Errorf("%d certificates, %s: %v", n, name, err)
			}
		}
		if n > 3 {
			turned := slices.Clone(good)
			turned[n-3], turned[n-2] = turned[n-2], turned[n-3]
			if _, err := new(memo).verifyChain(turned, root, now); err == nil {
				t.Errorf("%d certificates, last two below the root turned: accepted", n)
			}
		}
	}
	if _, err := new(memo).verifyChain(forge(t, 2, now, func(int, *x509.Certificate) {}), nil, now); err == nil || !strings.Contains(err.Error(), "no root") {
		t.Errorf("no root: %v", err)
	}
}

// TestLoneManifest: by itself a manifest is judged by the same policy, of which the zero one accepts none.
func TestLoneManifest(t *testing.T) {
	_, rims := production(t)
	r := rims[0]
	for name, c := range map[string]struct {
		policy Policy
		want   string
	}{
		"zero":         {Policy{}, "the policy names no manifest"},
		"another":      {Policy{RIMs: [][32]byte{{1}}, NoOCSP: true}, "is none of the 1 that are pinned"},
		"no responses": {Policy{RIMs: [][32]byte{r.SHA256}}, "no response"},
		"pinned":       {Policy{RIMs: [][32]byte{{1}, r.SHA256}, NoOCSP: true}, ""},
		"any":          {Policy{UnpinnedRIM: true, NoOCSP: true}, ""},
	} {
		checks, err := VerifyRIM(Input{Roots: nvidia(t), Now: r.SignedAfter(), Policy: c.policy}, r)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || err == nil && (len(checks) != 2 || checks[0].Status != OK) {
			t.Errorf("%s: %v, %v; want %q", name, checks, err, c.want)
		}
	}
}
