package vtpm_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave/appraise"
	"tally/enclave/appraise/amd"
	"tally/enclave/appraise/hcl"
	"tally/enclave/attest/vtpm"
	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

var azureTime = time.Unix(1767225600, 0)

// azureTPM is a software TPM set up as Azure's paravisor does it: an RSA key at 0x81000003 and a report of m about it in NV
// index 0x01400001, with zeros behind.
func azureTPM(t *testing.T, m *attesttest.AMD, change func([]byte) []byte) transport.TPM {
	t.Helper()
	dev := softTPM(t)
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.TPMTPublic{Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048,
			Scheme: tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}})})}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{Auth: owner(), ObjectHandle: &tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, PersistentHandle: 0x81000003}).Execute(dev); err != nil {
		t.Fatal(err)
	}
	pub, err := key.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	n, err := pub.Unique.RSA()
	if err != nil {
		t.Fatal(err)
	}
	z, err := attesttest.NewAzure(m)
	if err != nil {
		t.Fatal(err)
	}
	z.Data = func(string) string {
		return fmt.Sprintf(`{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":%q}]}`, base64.RawURLEncoding.EncodeToString(n.Buffer))
	}
	report, _, err := z.Report()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		report = change(report)
	}
	writeNV(t, dev, append(report, make([]byte, 2600-len(report))...))
	return dev
}

func owner() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
}

// writeNV puts b into the index, of which swtpm has at most 2048 bytes (Azure's is of 2600): what is cut off is zeros.
func writeNV(t *testing.T, dev transport.TPM, b []byte) {
	t.Helper()
	if b = b[:2048]; b[2047] != 0 {
		t.Fatal("the report does not fit swtpm's index")
	}
	def := tpm2.NVDefineSpace{AuthHandle: owner(), PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: 0x01400001, NameAlg: tpm2.TPMAlgSHA256,
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, NT: tpm2.TPMNTOrdinary, NoDA: true}, DataSize: uint16(len(b))})}
	if _, err := def.Execute(dev); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(b); at += 512 {
		pub, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(0x01400001)}.Execute(dev)
		if err != nil {
			t.Fatal(err)
		}
		w := tpm2.NVWrite{AuthHandle: owner(), NVIndex: tpm2.NamedHandle{Handle: 0x01400001, Name: pub.NVName}, Data: tpm2.TPM2BMaxNVBuffer{Buffer: b[at:min(at+512, len(b))]}, Offset: uint16(at)}
		if _, err := w.Execute(dev); err != nil {
			t.Fatal(err)
		}
	}
}

func fakeAMD(t *testing.T) *attesttest.AMD {
	t.Helper()
	m, err := attesttest.NewAMD(azureTime)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAzure runs the attester on a software TPM with a paravisor's report, the certificates from a server as Azure's, and
// the appraisal on what comes of it.
func TestAzure(t *testing.T) {
	m := fakeAMD(t)
	m.Fields.Measurement[0] = 0x42
	dev := azureTPM(t, m, nil)
	certificates, err := vtpm.AzureCertificates(t.Context(), http.DefaultClient, thim(t, m).URL)
	if err != nil {
		t.Fatal(err)
	}
	a, err := vtpm.NewAzure(dev, certificates)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	c := evidence.Claims{Authority: "default", Static: [32]byte{1}, Epoch: 1, NotBefore: 1, NotAfter: 2}
	report, end, err := a.Attest(t.Context(), c.ReportData())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := (&evidence.Document{Platform: a.Platform(), Claims: c, Report: report, Endorsements: end}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	rv := &measure.ReferenceValues{Name: "minimal", Version: "1"}
	for _, n := range []int{4, 5, 7, 9, 11, 12, 13} {
		rv.Values = append(rv.Values, measure.Value{Platform: measure.Platform{Name: "q", TEE: "vtpm"}, Register: fmt.Sprintf("pcr%d", n), Digest: make([]byte, 32),
			Covers: []measure.Part{measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot}})
	}
	zero := []string{strings.Repeat("0", 64)}
	p := appraise.Policy{Platforms: []string{vtpm.AzurePlatform}, Freshness: appraise.FreshNone, Azure: &appraise.Azure{VTPM: appraise.VTPM{PCR0: zero, PCR2: zero},
		Paravisors: []string{fmt.Sprintf("%x", m.Fields.Measurement)}, SNP: appraise.SNP{TCB: map[string]appraise.SNPTCB{"Milan": {SNP: 24}}, Firmware: [2]uint8{1, 55},
			Signers: []string{"vcek"}, AllowSMT: true, IgnoreCRL: true, Chips: []string{appraise.Any}, Roots: m.Roots()}}}
	in := appraise.Input{Document: doc, Static: c.Static, Authority: "default", Reference: rv, Now: azureTime.Add(time.Hour)}
	if r, err := appraise.Appraise(in, p); err != nil || r.Insecure {
		t.Fatal(err)
	}
	p.Azure.SNP.Roots = nil
	refused(t, "AMD's roots", in, p, appraise.BadSignature, "")
	// The key stays in the TPM: it is Azure's.
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := vtpm.NewAzure(dev, certificates); err != nil {
		t.Error("after Close:", err)
	}
}

func TestAzureRefused(t *testing.T) {
	if _, err := vtpm.NewAzure(softTPM(t), nil); !errors.Is(err, vtpm.ErrNotAzure) {
		t.Errorf("a TPM without a report: %v", err)
	}
	other := new(big.Int).Lsh(big.NewInt(1), 2047)
	swap := func(b []byte) []byte { // another key, of the same length
		at := bytes.Index(b, []byte(`"n":"`)) + 5
		n := (&rsa.PublicKey{N: other.Add(other, big.NewInt(1))}).N.Bytes()
		copy(b[at:], base64.RawURLEncoding.EncodeToString(n))
		return b
	}
	m := fakeAMD(t)
	for name, c := range map[string]struct {
		change func([]byte) []byte
		words  string
	}{
		"another key":    {swap, "another than the one that is endorsed"},
		"not a report":   {func(b []byte) []byte { b[0] = 0; return b }, "HCLA"},
		"a TDX machine":  {func(b []byte) []byte { b[1224] = 4; return b }, "TDX"},
		"not as in SPEC": {func(b []byte) []byte { b[1228] = 3; return b }, "hash 3"},
	} {
		if _, err := vtpm.NewAzure(azureTPM(t, m, c.change), nil); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
	}
}

// thim is a server of certificates as Azure's hosts have it.
func thim(t *testing.T, m *attesttest.AMD) *httptest.Server {
	t.Helper()
	table, err := m.Endorsements()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.Report([64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := amd.Verify(raw, table, m.Roots(), azureTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	vcek := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Attestation.CertificateChain.VcekCert})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.Header.Get("Metadata") != "true":
			http.Error(w, "no", http.StatusBadRequest)
		case q.URL.Path == "/large":
			w.Write(make([]byte, hcl.MaxCertificates+1))
		case q.URL.Path == "/text":
			w.Write([]byte("certificate"))
		case q.URL.Path == "/none":
			w.Write([]byte(`{"vcekCert":"none"}`))
		default:
			json.NewEncoder(w).Encode(map[string]string{"vcekCert": string(vcek), "tcbm": "DB18000000000004", "certificateChain": "", "cacheControl": "86400"})
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAzureCertificates(t *testing.T) {
	s := thim(t, fakeAMD(t))
	bare := &http.Client{Transport: stripped{}}
	for path, words := range map[string]string{"/large": "at most 65536", "/text": "not JSON", "/none": "PEM"} {
		if _, err := vtpm.AzureCertificates(t.Context(), http.DefaultClient, s.URL+path); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v, want %q", path, err, words)
		}
	}
	if _, err := vtpm.AzureCertificates(t.Context(), bare, s.URL); err == nil || !strings.Contains(err.Error(), "status 400") {
		t.Errorf("without the header: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := vtpm.AzureCertificates(ctx, http.DefaultClient, s.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

type stripped struct{}

func (stripped) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Del("Metadata")
	return http.DefaultTransport.RoundTrip(r)
}
