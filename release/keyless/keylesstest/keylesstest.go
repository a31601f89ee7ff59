// Package keylesstest is a Sigstore of one's own for tests: an issuer of identity tokens, a CA that gives
// certificates for them as Fulcio does, with a certificate log, and a timestamp authority, all on one loopback
// server with a clock of its own. It is for tests only.
package keylesstest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/digitorus/timestamp"

	rt "tally/release/releasetest"
)

const (
	github = "https://github.com/"

	// Issuer is whom GitHub's tokens are from.
	Issuer = "https://token.actions.githubusercontent.com"
)

// A World is the whole Sigstore. Its fields may be changed between uses.
type World struct {
	URL             string // of the CA; the timestamp authority is at URL + "/tsa"
	Root            []byte // trusted root
	RootWithoutLogs []byte // the same without the certificate log

	Now   func() time.Time // of CA and certificate log
	Late  time.Duration    // how much later the timestamp authority's clock is
	NoSCT bool             // the CA shows its certificates to no log

	Edit func(*x509.Certificate) // of what the CA is about to sign; nil: nothing

	ca, tsa *pair
	ct      *ecdsa.PrivateKey
	issuer  *ecdsa.PrivateKey
	srv     *httptest.Server
}

// Claims are those of an identity token that the CA looks at.
type Claims struct {
	Issuer         string `json:"iss"`
	Subject        string `json:"sub"`
	Audience       string `json:"aud"`
	Email          string `json:"email,omitempty"`
	EmailVerified  bool   `json:"email_verified,omitempty"`
	Repository     string `json:"repository,omitempty"`
	JobWorkflowRef string `json:"job_workflow_ref,omitempty"`
	WorkflowRef    string `json:"workflow_ref,omitempty"`
	Ref            string `json:"ref,omitempty"`
	SHA            string `json:"sha,omitempty"`
}

// Commit is that of Workflow.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// Workflow is .github/workflows/release.yml of acme/enclave at a ref.
func Workflow(ref string) Claims {
	path := "acme/enclave/.github/workflows/release.yml@" + ref
	return Claims{
		Issuer: Issuer, Subject: "repo:acme/enclave:ref:" + ref, Audience: "sigstore",
		Repository: "acme/enclave", JobWorkflowRef: path, WorkflowRef: path, Ref: ref, SHA: Commit,
	}
}

// Account is a person's or a service's.
func Account(mail string) Claims {
	return Claims{Issuer: "https://accounts.example", Subject: "1", Audience: "sigstore", Email: mail, EmailVerified: true}
}

// Start starts the world; its clock stands at releasetest.Now. The caller closes it.
func Start() (*World, error) {
	w := &World{Now: func() time.Time { return rt.Now }}
	var err error
	if w.issuer, err = newKey(); err != nil {
		return nil, err
	}
	if err := w.authorities(rt.Now); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/signingCert", w.serveCA)
	mux.HandleFunc("POST /tsa", w.serveTSA)
	mux.HandleFunc("GET /github-token", w.serveGitHub)
	w.srv = httptest.NewServer(mux)
	w.URL = w.srv.URL
	return w, nil
}

// Close stops the server.
func (w *World) Close() { w.srv.Close() }

// Token returns a signed identity token.
func (w *World) Token(c Claims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"alg":"ES256"}`)) + "." + b64(payload)
	d := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, w.issuer, d[:])
	if err != nil {
		return "", err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + b64(sig), nil
}

// claims checks a token.
func (w *World) claims(token string) (c Claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("no token")
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		return c, errors.New("bad token signature")
	}
	d := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(&w.issuer.PublicKey, d[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return c, errors.New("the issuer did not sign the token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(payload, &c)
	}
	if err == nil && c.Audience != "sigstore" {
		err = fmt.Errorf("audience %q", c.Audience)
	}
	return c, err
}

// serveCA is Fulcio's API v2 as far as it is used.
func (w *World) serveCA(rw http.ResponseWriter, r *http.Request) {
	der, err := w.certify(r)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	chain := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	json.NewEncoder(rw).Encode(map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{"certificates": chain}}})
}

func (w *World) certify(r *http.Request) ([]byte, error) {
	c, err := w.claims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if err != nil {
		return nil, err
	}
	var req struct {
		PublicKeyRequest struct {
			PublicKey         struct{ Content string }
			ProofOfPossession []byte
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(req.PublicKeyRequest.PublicKey.Content))
	if block == nil {
		return nil, errors.New("no public key")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	subject := c.Subject
	if c.Email != "" {
		subject = c.Email
	}
	d := sha256.Sum256([]byte(subject))
	if ec, ok := pub.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(ec, d[:], req.PublicKeyRequest.ProofOfPossession) {
		return nil, errors.New("no proof of possession")
	}
	return w.leaf(c, pub)
}

// serveTSA answers RFC 3161 requests.
func (w *World) serveTSA(rw http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	req, err := timestamp.ParseRequest(data)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	ts := timestamp.Timestamp{
		HashAlgorithm: req.HashAlgorithm, HashedMessage: req.HashedMessage, Time: w.Now().Add(w.Late), Nonce: req.Nonce,
		Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}, AddTSACertificate: true,
	}
	resp, err := ts.CreateResponseWithOpts(w.tsa.cert, w.tsa.key, crypto.SHA256)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	io.Copy(rw, bytes.NewReader(resp))
}

// GitHubToken is what a job shows to get an identity token at URL + "/github-token?".
const GitHubToken = "request-token"

// serveGitHub is GitHub's door to identity tokens in a job of a workflow at tag v1.2.0.
func (w *World) serveGitHub(rw http.ResponseWriter, r *http.Request) {
	c := Workflow("refs/tags/v1.2.0")
	c.Audience = r.URL.Query().Get("audience")
	token, err := w.Token(c)
	if err != nil || r.Header.Get("Authorization") != "bearer "+GitHubToken {
		http.Error(rw, "no", http.StatusForbidden)
		return
	}
	json.NewEncoder(rw).Encode(map[string]string{"value": token})
}
