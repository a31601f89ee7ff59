package stock

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tally/release"
	kt "tally/release/keyless/keylesstest"
	"tally/release/log"
	rt "tally/release/releasetest"
	"tally/release/sign"
	"tally/release/sign/oidc"
	"tally/release/witness"
)

var quiet = slog.New(slog.DiscardHandler)

// witnessed is a world whose log two witnesses cosign, and who they are.
func witnessed(t *testing.T) (*rt.World, release.Quorum) {
	t.Helper()
	base, w := t.TempDir(), rt.New(t)
	w.LogDir, w.LogKey = filepath.Join(base, "pub"), filepath.Join(base, "pub.key")
	var lines strings.Builder
	var handlers [2]atomic.Pointer[http.Handler]
	for i := range handlers {
		k, err := witness.Create(filepath.Join(base, fmt.Sprint("w", i)), fmt.Sprintf("w%d.example", i), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { (*handlers[i].Load()).ServeHTTP(rw, r) }))
		t.Cleanup(srv.Close)
		fmt.Fprintf(&lines, "witness w%d %s %s\n", i, k, srv.URL)
	}
	lines.WriteString("group g all w0 w1\nquorum g\n")
	var err error
	w.Log, err = log.Create(t.Context(), w.LogDir, log.CreateOptions{
		Origin: "log.tally.example", KeyFile: w.LogKey, Rand: rand.Reader, Now: rt.Now, Logger: quiet, Witnesses: []byte(lines.String()),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range handlers {
		wit, err := witness.Open(filepath.Join(base, fmt.Sprint("w", i)), witness.Options{Logs: []release.LogKey{w.Log}, Now: func() time.Time { return rt.Now }, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { wit.Close() })
		h := wit.Handler()
		handlers[i].Store(&h)
	}
	p, err := release.ParseWitnessPolicy([]byte(lines.String()), "p")
	if err != nil {
		t.Fatal(err)
	}
	w.Bundle = w.Publish(t, w.Sign(t, w.Key, sign.Options{Sequence: 1})).Bundle
	return w, p.Quorum
}

// An otherLog is a log that takes leaves of releases which are published elsewhere, as Rekor does.
type otherLog struct{ dir, keyFile string }

func secondLog(t *testing.T) otherLog {
	t.Helper()
	base := t.TempDir()
	l := otherLog{filepath.Join(base, "pub"), filepath.Join(base, "pub.key")}
	if _, err := log.Create(t.Context(), l.dir, log.CreateOptions{Origin: "second.example", KeyFile: l.keyFile, Rand: rand.Reader, Now: rt.Now, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	l.append(t, []byte("another leaf"))
	return l
}

func (o otherLog) append(t *testing.T, body []byte) *release.Entry {
	t.Helper()
	l, err := log.Open(t.Context(), o.dir, o.keyFile, time.Now, quiet)
	if err != nil {
		t.Fatal(err)
	}
	e, err := l.Append(t.Context(), body)
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return e
}

// A sigstore gives certificates to a workflow at tag v1.2.0.
type sigstore struct{ *kt.World }

func certified(t *testing.T) sigstore {
	t.Helper()
	k, err := kt.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return sigstore{k}
}

// identity are the flags that name the workflow.
func (k sigstore) identity() []string {
	return []string{"--certificate-identity", "https://github.com/acme/enclave/.github/workflows/release.yml@refs/tags/v1.2.0", "--certificate-oidc-issuer", kt.Issuer}
}

// publish signs a release of w's files as the workflow and logs it.
func (k sigstore) publish(t *testing.T, w *rt.World, opt sign.Options) []byte {
	t.Helper()
	token, err := k.Token(kt.Workflow("refs/tags/v1.2.0"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := w.Statement(t, opt).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, who, err := oidc.Seal(t.Context(), payload, oidc.Options{Token: token, FulcioURL: k.URL, TSAURL: k.URL + "/tsa", TrustedRoot: k.Root})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := release.CertifiedKey(b.Certificate, who)
	if err != nil {
		t.Fatal(err)
	}
	p, err := w.TryPublish(t.Context(), t, rt.Marshal(t, b), signer)
	if err != nil {
		t.Fatal(err)
	}
	return p.Bundle
}
