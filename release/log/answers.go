package log

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// answers is an HTTP transport that keeps what each witness last said, for the error message.
type answers struct {
	weigh func(time.Time) error // as in settings
	mu    sync.Mutex
	last  map[string]string // by host
}

// maxAnswer is the most that a witness may say, unpacked: a few signature lines. Tessera reads whatever comes.
const maxAnswer = 64 << 10

// RoundTrip does as http.DefaultTransport does, but for answers that are too long or of a wrong time.
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, body, err := roundTrip(r)
	if err == nil && resp.StatusCode == http.StatusOK && a.weigh != nil {
		for _, t := range cosignedAt(body) {
			err = errors.Join(err, a.weigh(t))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = map[string]string{}
	}
	if err != nil {
		a.last[r.URL.Host] = err.Error()
		return nil, err
	}
	a.last[r.URL.Host] = fmt.Sprintf("HTTP status %d", resp.StatusCode)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// roundTrip returns a response and its body, which is read already.
func roundTrip(r *http.Request) (*http.Response, []byte, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, maxAnswer))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			err = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
		}
		return nil, nil, err
	}
	return resp, body, nil
}

// cosignedAt returns the times of the cosignatures in a witness's answer, which are yet to be verified.
func cosignedAt(answer []byte) (times []time.Time) {
	_, err := note.Open(append([]byte("x\n\n"), answer...), note.VerifierList()) // parses the lines as Tessera does
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return nil // no cosignature to Tessera either
	}
	for _, s := range unverified.Note.UnverifiedSigs {
		if raw, err := base64.StdEncoding.DecodeString(s.Base64); err == nil && len(raw) == 4+8+ed25519.SignatureSize {
			times = append(times, time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0))
		}
	}
	return times
}

func (a *answers) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for host, text := range a.last {
		all = append(all, host+": "+text)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}
