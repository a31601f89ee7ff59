package amd

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"
	"time"

	"github.com/google/go-sev-guest/proto/sevsnp"
	"google.golang.org/protobuf/proto"
)

// maxMemo bounds a Memo: so many reports, some 8 KiB each.
const maxMemo = 64

// A Memo remembers what Verify has found good. An enclave shows the same report with the same certificates to every session of
// its key, and three signatures of RSA-4096 and P-384 are most of what a client computes for a session.
//
// Verify's answer follows from its arguments alone, of the time only from which certificates and list are valid: the same
// bytes under the same roots, at a time at which the same ones are, have the same answer. Refusals are not remembered. The
// zero Memo is empty and ready; a nil *Memo remembers nothing. It may be used from several goroutines.
type Memo struct {
	mu   sync.Mutex
	good map[[32]byte]*Report
}

// Verify is the package's Verify.
func (m *Memo) Verify(raw, endorsements []byte, roots *Roots, now time.Time) (*Report, error) {
	if m == nil {
		return Verify(raw, endorsements, roots, now)
	}
	key := memoKey(raw, endorsements, roots)
	m.mu.Lock()
	r := m.good[key]
	m.mu.Unlock()
	if r != nil && !now.Before(r.from) && now.Before(r.until) {
		return r.clone(), nil
	}
	r, err := Verify(raw, endorsements, roots, now)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.good == nil || len(m.good) >= maxMemo {
		m.good = map[[32]byte]*Report{}
	}
	m.good[key] = r.clone()
	return r, nil
}

// clone shares nothing that a caller could change for another.
func (r *Report) clone() *Report {
	out := *r
	out.Attestation = proto.Clone(r.Attestation).(*sevsnp.Attestation)
	out.Report, out.Raw = out.Attestation.Report, append([]byte(nil), r.Raw...)
	return &out
}

// memoKey is a hash over everything that an answer rests on but the time, each with its length.
func memoKey(raw, endorsements []byte, roots *Roots) (key [32]byte) {
	h := sha256.New()
	add := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	add(raw)
	add(endorsements)
	if roots != nil {
		for _, c := range []*x509.Certificate{roots.ARK, roots.ASK, roots.ASVK} {
			if c == nil {
				add(nil)
				continue
			}
			add(c.Raw)
		}
	}
	return [32]byte(h.Sum(nil))
}

// valid narrows the time in which r's answer stands to that of c.
func (r *Report) valid(from, until time.Time) {
	if r.from.Before(from) {
		r.from = from
	}
	if r.until.IsZero() || until.Before(r.until) {
		r.until = until
	}
}
