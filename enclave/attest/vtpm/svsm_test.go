package vtpm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/appraise/tpm"
	"tally/enclave/attest/vtpm"
	"tally/enclave/attesttest"
	"tally/enclave/client"
	"tally/measure"
)

// An svsm is the kernel of a guest under an SVSM, with its configfs-tsm.
type svsm struct {
	*attesttest.AMD
	manifest []byte
	asked    []string // what was written, in order
	fail     error
}

func (s *svsm) client() configfsi.Client {
	return &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": &faketsm.ReportSubsystem{
		MakeEntry: func() *faketsm.ReportEntry {
			in := map[string]*faketsm.ReportAttributeState{}
			for _, name := range []string{"inblob", "service_provider", "service_guid", "service_manifest_version"} {
				in[name] = new(faketsm.ReportAttributeState)
			}
			return &faketsm.ReportEntry{InAttrs: in}
		},
		CheckInAttr: func(_ *faketsm.ReportEntry, attr string, b []byte) error {
			if attr != "inblob" {
				s.asked = append(s.asked, attr+" "+string(b))
			}
			return nil
		},
		ReadAttr: s.read, Random: rand.Reader,
	}}}
}

// read answers as SVSM and processor do: 58019, section 7.
func (s *svsm) read(e *faketsm.ReportEntry, attr string) ([]byte, error) {
	switch attr {
	case "provider":
		return []byte("sev_guest\n"), nil
	case "manifestblob":
		return s.manifest, nil
	case "auxblob":
		return s.Endorsements()
	}
	if s.fail != nil {
		return nil, s.fail
	}
	return s.Report(sha512.Sum512(append(bytes.Clone(e.InAttrs["inblob"].Value), s.manifest...)))
}

// endorsementKey is the TPMT_PUBLIC of dev's, by the TCG's template as go-tpm has it.
func endorsementKey(t *testing.T, dev transport.TPM) []byte {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(dev)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(dev); err != nil {
		t.Fatal(err)
	}
	return rsp.OutPublic.Bytes()
}

// svsmConfig is a client's that accepts a TPM with all its PCRs zero under the SVSM of m.
func svsmConfig(m *attesttest.AMD, fresh appraise.Freshness) client.Config {
	rv := &measure.ReferenceValues{Name: "minimal", Version: "1"}
	for _, n := range []int{4, 5, 7, 9, 11, 12, 13} {
		rv.Values = append(rv.Values, measure.Value{Platform: measure.Platform{Name: "q", TEE: "vtpm"}, Register: fmt.Sprintf("pcr%d", n), Digest: make([]byte, 32),
			Covers: []measure.Part{measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot}})
	}
	zero := []string{strings.Repeat("0", 64)}
	p := appraise.Policy{Platforms: []string{vtpm.SVSMPlatform}, Freshness: fresh, SVSM: &appraise.SVSM{VTPM: appraise.VTPM{PCR0: zero, PCR2: zero},
		SVSMs: []string{fmt.Sprintf("%x", m.Fields.Measurement)}, SNP: appraise.SNP{TCB: map[string]appraise.SNPTCB{"Milan": {SNP: 24}}, Firmware: [2]uint8{1, 55},
			Signers: []string{"vcek"}, AllowSMT: true, IgnoreCRL: true, Chips: []string{appraise.Any}, Roots: m.Roots()}}}
	return client.Config{Authority: "default", Policy: p, Rand: rand.Reader, Now: func() time.Time { return azureTime.Add(time.Hour) }, Reference: rv}
}

// serve is an enclave by a; it ends with the test.
func serve(t *testing.T, a enclave.Attester) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- enclave.Serve(ctx, ln, a, enclave.Echo{}, enclave.Options{Authority: "default", Rand: rand.Reader, Now: func() time.Time { return azureTime }, Logger: slog.New(slog.DiscardHandler), Tick: -1})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// TestSVSM has clients talk to an enclave whose TPM, a software TPM, an SVSM vouches for: with either freshness, again in
// the same session, and in a reconnect.
func TestSVSM(t *testing.T) {
	m := fakeAMD(t)
	m.Fields.Measurement[0] = 0x42
	dev := softTPM(t)
	k := &svsm{AMD: m, manifest: endorsementKey(t, dev)}
	a, err := vtpm.NewSVSM(t.Context(), dev, k.client())
	if err != nil {
		t.Fatal(err)
	}
	if want := "service_provider svsm, service_guid c476f1eb-0123-45a5-9641-b4e7dde5bfe3, service_manifest_version 0"; strings.Join(k.asked, ", ") != want {
		t.Errorf("the kernel was asked %q, want %q", k.asked, want)
	}
	addr := serve(t, a)
	for _, fresh := range []appraise.Freshness{appraise.FreshNone, appraise.FreshSession} {
		cfg := svsmConfig(m, fresh)
		cfg.Pins, cfg.Memo = new(client.Pins), new(appraise.Memo)
		for range 2 {
			s, err := client.Dial(t.Context(), new(net.Dialer), addr, cfg)
			if err != nil {
				t.Fatal(fresh, err)
			}
			if err := s.Reappraise(t.Context()); err != nil {
				t.Error(fresh, "again:", err)
			}
			if b, err := s.Do(t.Context(), []byte("hello")); err != nil || string(b) != "hello" || s.Result().Insecure {
				t.Errorf("%s: %q, %v, insecure %v", fresh, b, err, s.Result().Insecure)
			}
			s.Close(t.Context())
		}
	}
	cfg := svsmConfig(m, appraise.FreshNone)
	cfg.Policy.SVSM.SNP.Roots = nil
	dialRefused(t, "AMD's roots", addr, cfg, appraise.BadSignature, "")
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func dialRefused(t *testing.T, name, addr string, cfg client.Config, reason appraise.Reason, words string) {
	t.Helper()
	s, err := client.Dial(t.Context(), new(net.Dialer), addr, cfg)
	if err == nil {
		s.Close(t.Context())
	}
	var no *appraise.Error
	if !errors.As(err, &no) || no.Result.Reason != reason || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: %v, want %s with %q", name, err, reason, words)
	}
}

// A forger runs a guest of his own under a genuine SVSM: its TPM is real, and the key that signs his quotes is not in it.
type forger struct {
	*attesttest.SVSM
	real *vtpm.SVSM
}

func (f forger) Activate(ctx context.Context, challenge []byte) ([]byte, error) {
	return f.real.Activate(ctx, challenge)
}

// plain is an attester that opens nothing.
type plain struct{ enclave.Attester }

func TestSVSMForged(t *testing.T) {
	m := fakeAMD(t)
	dev := softTPM(t)
	k := &svsm{AMD: m, manifest: endorsementKey(t, dev)}
	a, err := vtpm.NewSVSM(t.Context(), dev, k.client())
	if err != nil {
		t.Fatal(err)
	}
	fake, err := attesttest.NewSVSM(m)
	if err != nil {
		t.Fatal(err)
	}
	fake.Manifest = func([]byte) []byte { return k.manifest }
	cfg := svsmConfig(m, appraise.FreshNone)
	const want = "challenge about the quote's key"
	dialRefused(t, "his own key", serve(t, fake), cfg, appraise.BadSignature, want)
	dialRefused(t, "his own key, the TPM asked", serve(t, forger{fake, a}), cfg, appraise.BadSignature, want)
	dialRefused(t, "no answer", serve(t, plain{a}), cfg, appraise.BadSignature, "the enclave has no TPM credential")
	// The TPM opens what names its key, and nothing that is bent.
	c, err := tpm.NewChallenge(rand.Reader, keyName(t, a), k.manifest)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Activate(t.Context(), c.Blob); err != nil || !c.Opened(got) {
		t.Errorf("%x, %v", got, err)
	}
	for i := 0; i < len(c.Blob); i += 29 {
		bent := bytes.Clone(c.Blob)
		bent[i] ^= 1
		if got, err := a.Activate(t.Context(), bent); err == nil {
			t.Errorf("bent at %d: %x", i, got)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Activate(gone, c.Blob); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

func keyName(t *testing.T, a enclave.Attester) string {
	t.Helper()
	report, _, err := a.Attest(t.Context(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := tpm.Verify(report)
	if err != nil {
		t.Fatal(err)
	}
	return e.KeyName
}

func TestSVSMAbsent(t *testing.T) {
	m, dev := fakeAMD(t), softTPM(t)
	own := endorsementKey(t, dev)
	other := bytes.Clone(own)
	other[100] ^= 1
	for name, c := range map[string]struct {
		k     *svsm
		words string
	}{
		"another TPM's key": {&svsm{AMD: m, manifest: other}, "another endorsement key"},
		"no manifest":       {&svsm{AMD: m}, "manifest of 0 bytes"},
		"a large manifest":  {&svsm{AMD: m, manifest: make([]byte, 33<<10)}, "manifest of 33792 bytes"},
		"no SVSM":           {&svsm{AMD: m, manifest: own, fail: syscall.EINVAL}, "invalid argument"},
	} {
		for range 4 { // a TPM has few places for keys: each failure leaves them free
			if _, err := vtpm.NewSVSM(t.Context(), dev, c.k.client()); err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v, want %q", name, err, c.words)
			}
		}
	}
	if _, err := vtpm.NewSVSM(t.Context(), dev, (&svsm{AMD: m, manifest: own}).client()); err != nil {
		t.Error("after all that:", err)
	}
}
