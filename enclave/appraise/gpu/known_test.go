package gpu

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/internal/testtool"
)

// chainsOfVectors returns every chain in the vectors, of devices and of signers of manifests, each with its root.
func chainsOfVectors(t *testing.T) (all [][]*x509.Certificate) {
	t.Helper()
	roots := nvidia(t)
	add := func(chain []*x509.Certificate, root *x509.Certificate) {
		if !chain[len(chain)-1].Equal(root) {
			chain = append(slices.Clip(chain), root)
		}
		all = append(all, chain)
	}
	err := filepath.WalkDir("testdata/vectors", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if chain, e := ParseChain(b); e == nil {
			add(chain, roots.Device)
		}
		if devices, e := ParseEvidence(b, nil); e == nil {
			for _, d := range devices {
				if chain, e := ParseChain(d.Chain); e == nil {
					add(chain, roots.Device)
				}
			}
		}
		if r, e := ParseRIM(b); e == nil {
			add(r.sig.chain, roots.RIM)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// authoritiesOf returns the certificates of a chain, root last, that are verified down from the root and are the vendor's own:
// authorities, but for the chips, each of which is one to its firmware.
func authoritiesOf(chain []*x509.Certificate) []*x509.Certificate {
	i := len(chain) - 1
	for i > 0 {
		c, issuer := chain[i-1], chain[i]
		at := c.NotBefore
		if issuer.NotBefore.After(at) {
			at = issuer.NotBefore
		}
		if !c.IsCA || strings.HasSuffix(c.Subject.CommonName, "BROM") || onePath([]*x509.Certificate{c, issuer}, at.Add(time.Second)) != nil {
			break
		}
		i--
	}
	return chain[i:]
}

// TestKnownLinks: roots/links has the links among the vendor's authorities in the vectors and no other, each verified by the library and
// by OpenSSL.
func TestKnownLinks(t *testing.T) {
	known, err := parseLinks(linksText)
	if err != nil {
		t.Error(err)
	}
	lines, want := map[string]bool{}, map[pair]bool{}
	for _, chain := range chainsOfVectors(t) {
		chain = authoritiesOf(chain)
		for i, c := range chain[:len(chain)-1] {
			p := pair{sha256.Sum256(c.Raw), sha256.Sum256(chain[i+1].Raw)}
			if !want[p] {
				opensslVerifies(t, c, chain[i+1])
			}
			want[p] = true
			lines[fmt.Sprintf("%x %x %s, by %s\n", p.cert, p.issuer, c.Subject.CommonName, chain[i+1].Subject.CommonName)] = true
		}
	}
	if !maps.Equal(known, want) || len(want) < 10 {
		t.Errorf("roots/links: %d links, the vectors have %d:\n%s", len(known), len(want), strings.Join(slices.Sorted(maps.Keys(lines)), ""))
	}
}

// opensslVerifies wants OpenSSL to find the certificate signed by its issuer.
func opensslVerifies(t *testing.T, c, issuer *x509.Certificate) {
	t.Helper()
	tool, dir := testtool.Need(t, "openssl"), t.TempDir()
	for name, x := range map[string]*x509.Certificate{"cert": c, "issuer": issuer} {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.Raw})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(tool, "verify", "-partial_chain", "-no_check_time", "-no-CAfile", "-no-CApath", "-no-CAstore",
		"-trusted", filepath.Join(dir, "issuer"), filepath.Join(dir, "cert")).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", c.Subject.CommonName, err, out)
	}
}

// TestKnownLinksStand: a link that is known is one between those very certificates, while both are valid, under the root that the caller
// has.
func TestKnownLinksStand(t *testing.T) {
	text, roots := read(t, "go-nvtrust/gpuAkCertChain.txt"), nvidia(t)
	chain, err := ParseChain(text)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(chain []*x509.Certificate, root *x509.Certificate, at time.Time) (int, error) {
		m := new(memo)
		_, err := m.verifyChain(chain, root, at)
		return len(m.done), err
	}
	if n, err := verify(chain, roots.Device, now); n != 2 || err != nil {
		t.Errorf("%d links computed, %v, want the chip's and its firmware's", n, err)
	}
	for place := 2; place < 4; place++ { // the authorities below the root
		early := chain[place].NotBefore.Add(-time.Second)
		if _, err := verify(chain, roots.Device, early); err == nil || !strings.Contains(err.Error(), "not yet valid") {
			t.Errorf("%s, before it begins: %v", chain[place].Subject.CommonName, err)
		}
		changed := slices.Clone(chain)
		if changed[place], err = x509.ParseCertificate(flipped(chain[place])); err != nil {
			t.Fatal(err)
		}
		if n, err := verify(changed, roots.Device, now); n != 3 && n != 4 || err == nil {
			t.Errorf("%s, its signature changed: %d links computed, %v", chain[place].Subject.CommonName, n, err)
		}
	}
	if _, err := verify(chain[:4:4], roots.RIM, now); err == nil {
		t.Error("under the other root: accepted")
	}
	if _, err := verify(slices.Delete(slices.Clone(chain), 2, 3), roots.Device, now); err == nil {
		t.Error("without the provisioner: accepted")
	}
	r := rim(t, "nvtrust/Driver_RIM_test_no_gpu.swidtag")
	late := r.sig.chain[1].NotAfter.Add(time.Second)
	if _, err := verify(r.sig.chain[1:], roots.RIM, late); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%s, after its end: %v", r.sig.chain[1].Subject.CommonName, err)
	}
	if n, err := verify(r.sig.chain[1:], roots.RIM, late.Add(-2*time.Second)); n != 0 || err != nil {
		t.Errorf("%s, before its end: %d links computed, %v", r.sig.chain[1].Subject.CommonName, n, err)
	}
}

// flipped returns a certificate with the last bit of its signature changed.
func flipped(c *x509.Certificate) []byte {
	raw := bytes.Clone(c.Raw)
	raw[len(raw)-1] ^= 1
	return raw
}

func TestParseLinks(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for text, want := range map[string]bool{
		sum + " " + sum + " a, by b\n": true, sum + " " + sum: true, "": false, sum: false, sum + "\n" + sum: false, sum + " " + sum[2:] + " x": false,
		sum + " " + sum + "00": false, sum + " " + "x" + sum[1:]: false, sum + " " + sum + "\n\n" + sum + " " + sum: false,
	} {
		if got, err := parseLinks(text); (err == nil) != want || want && len(got) != 1 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
