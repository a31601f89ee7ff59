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
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// answers is an HTTP transport that keeps what each witness last said, for the error message.
type answers struct {
	weigh func(time.Time) error // as in settings
	mu    sync.Mutex
	last  map[string]answer // by who
}

// An answer is what a witness last said.
type answer struct {
	text   string
	status int
	size   uint64 // with status 409: of the tree that it has cosigned; 0: it did not say
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
		a.last = map[string]answer{}
	}
	if err != nil {
		a.last[who(r)] = answer{text: err.Error()}
		return nil, err
	}
	said := answer{text: fmt.Sprintf("HTTP status %d", resp.StatusCode), status: resp.StatusCode}
	if said.status == http.StatusConflict && resp.Header.Get("Content-Type") == "text/x.tlog.size" {
		said.size, _ = strconv.ParseUint(strings.TrimSpace(string(body)), 10, 64)
	}
	a.last[who(r)] = said
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// who is the witness that is asked. Several may live at one host.
func who(r *http.Request) string {
	return r.URL.Host + strings.TrimSuffix(r.URL.Path, "/add-checkpoint")
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

// another says whether a witness has cosigned a tree that does not lie in the one of size leaves. That a smaller one was
// cosigned is said to whom asks, before each consistency proof (C2SP tlog-witness).
func (a *answers) another(size uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, said := range a.last {
		if said.status == http.StatusUnprocessableEntity || said.status == http.StatusConflict && (said.size == 0 || said.size > size) {
			return true
		}
	}
	return false
}

func (a *answers) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for who, said := range a.last {
		all = append(all, who+": "+said.text)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}
