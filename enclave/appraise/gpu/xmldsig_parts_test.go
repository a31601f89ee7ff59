package gpu

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSignatureParts: every part of a signature has its name, its namespace and its place.
func TestSignatureParts(t *testing.T) {
	good := string(read(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	for _, part := range []string{"SignedInfo", "SignatureValue", "KeyInfo", "CanonicalizationMethod", "SignatureMethod", "Reference", "Transforms", "Transform",
		"DigestMethod", "DigestValue", "X509Data", "X509Certificate"} {
		whole := regexp.MustCompile(`(?s)<ds:` + part + `( [^>]*)?(/>|>.*?</ds:` + part + `>)`)
		if !whole.MatchString(good) {
			t.Fatal(part)
		}
		first := true
		replace := func(with func(string) string) string {
			first = true
			return whole.ReplaceAllStringFunc(good, func(s string) string {
				if !first {
					return s
				}
				first = false
				return with(s)
			})
		}
		for how, text := range map[string]string{
			"another name":  strings.NewReplacer("<ds:"+part+">", "<ds:X>", "<ds:"+part+" ", "<ds:X ", "</ds:"+part+">", "</ds:X>").Replace(good),
			"another space": strings.NewReplacer("<ds:"+part+">", "<ns0:"+part+">", "<ds:"+part+" ", "<ns0:"+part+" ", "</ds:"+part+">", "</ns0:"+part+">").Replace(good),
			"missing":       replace(func(string) string { return "" }),
			"before it":     replace(func(s string) string { return "<ds:X/>" + s }),
			"behind it":     replace(func(s string) string { return s + "<ds:X/>" }),
			"in it": replace(func(s string) string {
				if body, ok := strings.CutSuffix(s, "/>"); ok {
					return body + "><ds:X/></ds:" + part + ">"
				}
				return strings.TrimSuffix(s, "</ds:"+part+">") + "<ds:X/></ds:" + part + ">"
			}),
		} {
			// A chain may lack its last certificates; whether it leads to the root is judged later.
			if part == "X509Certificate" && how == "missing" {
				continue
			}
			if _, err := ParseRIM([]byte(text)); err == nil || !strings.Contains(err.Error(), "signature: ") {
				t.Errorf("%s, %s: %v", part, how, err)
			}
		}
	}
}

// TestSignatureValues: values are base64 of the size that they must have, and certificates are certificates.
func TestSignatureValues(t *testing.T) {
	good := string(read(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for part, values := range map[string][]string{
		"SignatureValue":  {"", "!", b64(95), b64(97), b64(96) + "A"},
		"DigestValue":     {"", "!", b64(47), b64(49), b64(32)},
		"X509Certificate": {"", "!", b64(500)},
	} {
		whole := regexp.MustCompile(`(?s)<ds:` + part + `>.*?</ds:` + part + `>`)
		for _, v := range values {
			text := whole.ReplaceAllLiteralString(good, "<ds:"+part+">"+v+"</ds:"+part+">")
			if _, err := ParseRIM([]byte(text)); err == nil || !strings.Contains(err.Error(), "signature: ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %.20q: %v", part, v, err)
			}
		}
	}
	// Of the right size, and not the signer's.
	for part, want := range map[string]string{"SignatureValue": "not of certificate", "DigestValue": "the signature says"} {
		whole := regexp.MustCompile(`(?s)<ds:` + part + `>.*?</ds:` + part + `>`)
		size := map[string]int{"SignatureValue": 96, "DigestValue": 48}[part]
		r, err := ParseRIM([]byte(whole.ReplaceAllLiteralString(good, "<ds:"+part+">"+b64(size)+"</ds:"+part+">")))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Verify(nvidia(t).RIM, r.SignedAfter()); reasonOf(err, "") != RIMSignature || !strings.Contains(err.Error(), want) {
			t.Errorf("%s of zeros: %v, want %q", part, err, want)
		}
	}
}

// TestSignersKey: a manifest may come with a certificate of any key; one that is not on P-384 has signed nothing.
func TestSignersKey(t *testing.T) {
	good := string(read(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	now := time.Now()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, other, other, public, private)
	if err != nil {
		t.Fatal(err)
	}
	one := "<ds:X509Certificate>" + base64.StdEncoding.EncodeToString(der) + "</ds:X509Certificate>"
	from, to := strings.Index(good, "<ds:X509Data>")+len("<ds:X509Data>"), strings.Index(good, "</ds:X509Data>")
	r, err := ParseRIM([]byte(good[:from] + one + good[to:]))
	if err != nil {
		t.Fatal(err)
	}
	if o := r.sig.outcome(); o.signed || o.digest != [48]byte(r.sig.digest) {
		t.Errorf("%+v, want the digest that the signature says, and that nobody signed it", o)
	}
	if _, err := r.Verify(nvidia(t).RIM, now); reasonOf(err, "") != RIMChain {
		t.Errorf("%v, want %s", err, RIMChain)
	}
}

// TestSignatureWrapping moves what was signed to where nobody reads it, and puts something else where it was: the signature is then of
// another document, wherever the old one lies.
func TestSignatureWrapping(t *testing.T) {
	good := string(read(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag"))
	root := good[strings.Index(good, "<SoftwareIdentity"):]
	from, to := strings.Index(root, "<ds:Signature "), strings.Index(root, "</ds:Signature>")+len("</ds:Signature>")
	signature, signed := root[from:to], root[:from]+root[to:]
	evil := strings.Replace(signed, `active="True"`, `active="False"`, 1)
	if evil == signed {
		t.Fatal("nothing changed")
	}
	inside := func(doc, add string) string {
		return strings.Replace(doc, "</SoftwareIdentity>", add+"</SoftwareIdentity>", 1)
	}
	in := func(element string) string { return "<ns0:Entity>" + element + "</ns0:Entity>" }
	for name, c := range map[string]struct{ text, want string }{
		"as signed":           {inside(signed, signature), ""},
		"changed":             {inside(evil, signature), "digest of the document"},
		"signed one beside":   {inside(evil, signed+signature), "want Entity, one Meta"},
		"signed one below":    {inside(evil, in(signed)+signature), "digest of the document"},
		"whole one below":     {inside(evil, in(root)+signature), "2 in the document"},
		"whole one, its own":  {inside(evil, in(root)), "1 in the document"},
		"in an object":        {inside(evil, strings.Replace(signature, "</ds:Signature>", "<ds:Object>"+signed+"</ds:Object></ds:Signature>", 1)), "nothing else"},
		"in the key's place":  {inside(evil, strings.Replace(signature, "<ds:KeyInfo>", "<ds:KeyInfo>"+signed, 1)), "nothing else"},
		"in the value":        {inside(evil, strings.Replace(signature, "</ds:SignatureValue>", signed+"</ds:SignatureValue>", 1)), "SignatureValue"},
		"in a certificate":    {inside(evil, strings.Replace(signature, "</ds:X509Certificate>", signed+"</ds:X509Certificate>", 1)), "X509Certificate"},
		"around everything":   {"<SoftwareIdentity xmlns=\"" + swidSpace + "\">" + root + "</SoftwareIdentity>", "1 in the document"},
		"namespace, of a use": {inside(strings.Replace(signed, "<SoftwareIdentity ", `<SoftwareIdentity xmlns:q="u" `, 1), signature), "digest of the document"},
	} {
		r, err := ParseRIM([]byte(c.text))
		if err == nil {
			_, err = r.Verify(nvidia(t).RIM, r.SignedAfter())
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
