package pcr

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
)

// A Bank names the hash of a set of PCRs.
type Bank string

// The banks of a TPM 2.0.
const (
	SHA1   Bank = "sha1"
	SHA256 Bank = "sha256"
	SHA384 Bank = "sha384"
	SHA512 Bank = "sha512"
)

// ParseBank reads a bank's name.
func ParseBank(s string) (Bank, error) {
	if newHash(Bank(s)) == nil {
		return "", fmt.Errorf("bank %.20q: want sha1, sha256, sha384 or sha512", s)
	}
	return Bank(s), nil
}

func newHash(b Bank) hash.Hash {
	switch b {
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	}
	return nil
}

// A Value is the content of a register or the digest of an event: as many bytes as its bank's hash.
type Value []byte

func (v Value) String() string { return hex.EncodeToString(v) }

// MarshalText returns lower-case hex.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// An Event is one measurement.
type Event struct {
	PCR    int    `json:"pcr"`
	What   string `json:"what"`
	Digest Value  `json:"digest"`
}

// A Result is the registers of one bank and the events behind them, in boot order.
type Result struct {
	Bank   Bank          `json:"bank"`
	PCRs   map[int]Value `json:"pcrs"`
	Events []Event       `json:"events"`
}

// A log collects events of one bank.
type eventLog struct {
	bank   Bank
	events []Event
}

// measure adds an event whose digest is that of the data.
func (l *eventLog) measure(pcr int, what string, data ...[]byte) {
	h := newHash(l.bank)
	for _, d := range data {
		h.Write(d)
	}
	l.events = append(l.events, Event{pcr, what, h.Sum(nil)})
}

func (l *eventLog) separator(pcr int) { l.measure(pcr, "separator", make([]byte, 4)) }

// replay extends the registers 2 to 9 and 11 to 15 with the events.
func (l *eventLog) replay() *Result {
	r := &Result{Bank: l.bank, PCRs: map[int]Value{}, Events: l.events}
	size := newHash(l.bank).Size()
	for _, pcr := range []int{2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15} {
		r.PCRs[pcr] = make(Value, size)
	}
	for _, e := range l.events {
		h := newHash(l.bank)
		h.Write(r.PCRs[e.PCR])
		h.Write(e.Digest)
		r.PCRs[e.PCR] = h.Sum(nil)
	}
	return r
}
