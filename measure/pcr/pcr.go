package pcr

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"

	"tally/measure/eventlog"
	"tally/measure/internal/once"
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

// Algorithm is the bank's hash in an event log; zero for an unknown bank.
func (b Bank) Algorithm() eventlog.Algorithm {
	return map[Bank]eventlog.Algorithm{SHA1: eventlog.SHA1, SHA256: eventlog.SHA256, SHA384: eventlog.SHA384, SHA512: eventlog.SHA512}[b]
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

// A Value is the content of a register: as many bytes as its bank's hash.
type Value = eventlog.Digest

// An Event is one measurement; its register is pcr0 to pcr15.
type Event = eventlog.Event

// A Result is the registers of one bank and the events behind them, in boot order.
type Result struct {
	Bank   Bank          `json:"bank"`
	PCRs   map[int]Value `json:"pcrs"`
	Events []Event       `json:"events"`

	// Assumes says what must not happen in the guest for the registers to stay so: which units of systemd
	// are masked or absent. An image without systemd has none.
	Assumes []string `json:"assumes"`

	// Undecided are registers that the files given do not decide, ascending.
	Undecided []Undecided `json:"undecided"`

	Cmdline string `json:"-"` // the UKI's own
}

// An Undecided is a register without a value.
type Undecided struct {
	Register string  `json:"register"`
	Reason   string  `json:"reason"` // a sentence without a stop
	Events   []Event `json:"events"` // those of its events that are known, in order; none is also good
}

// Registers lists the names of the registers that were computed, ascending.
func (r *Result) Registers() []string {
	var all []string
	for n := range 24 {
		if r.PCRs[n] != nil {
			all = append(all, eventlog.PCR(n))
		}
	}
	return all
}

// A log collects events of one bank.
type eventLog struct {
	bank   Bank
	events []Event
	hashes *once.Hashes
}

func newLog(bank Bank, hashes *once.Hashes) *eventLog {
	if hashes == nil {
		hashes = new(once.Hashes)
	}
	return &eventLog{bank: bank, hashes: hashes}
}

// measure adds an event whose digest is that of the data.
func (l *eventLog) measure(pcr int, what string, data ...[]byte) *Event {
	return l.add(pcr, what, l.digest(data...))
}

func (l *eventLog) add(pcr int, what string, digest Value) *Event {
	l.events = append(l.events, Event{Register: eventlog.PCR(pcr), What: what, Digest: digest})
	return &l.events[len(l.events)-1]
}

// digest hashes parts that follow each other. Over a large first part it passes once.
func (l *eventLog) digest(data ...[]byte) Value {
	first := data[0]
	h := l.hashes.Feed(newHash(l.bank), string(l.bank), "", first, func(h hash.Hash) { h.Write(first) })
	for _, d := range data[1:] {
		h.Write(d)
	}
	return h.Sum(nil)
}

func (l *eventLog) separator(pcr int) { l.measure(pcr, "separator", make([]byte, 4)) }

// replay extends the registers named with the events. An event of any other register is left out of the
// result: its register was not asked for, or not all of its events are known.
func (l *eventLog) replay(registers []int) *Result {
	r := &Result{Bank: l.bank, PCRs: map[int]Value{}}
	names := map[string]int{}
	for _, pcr := range registers {
		names[eventlog.PCR(pcr)] = pcr
		r.PCRs[pcr] = make(Value, newHash(l.bank).Size())
	}
	for _, e := range l.events {
		pcr, ok := names[e.Register]
		if !ok {
			continue
		}
		r.PCRs[pcr] = eventlog.Extend(l.bank.Algorithm(), r.PCRs[pcr], e.Digest)
		r.Events = append(r.Events, e)
	}
	r.Events = slices.Clip(r.Events)
	return r
}
