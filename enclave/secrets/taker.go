package secrets

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"io"
	"sync"

	"tally/internal/erase"
)

// Options are what a Taker needs, all of it.
type Options struct {
	Operator *ecdsa.PublicKey // on P-256
	Limits   map[string]int   // the most bytes of each secret: all of these must come, and no other

	// Keep is given the secrets, once unless it fails. The values are overwritten when it returns.
	Keep func([]Secret) error
}

// A Taker is an enclave's side. It takes all its secrets in one message, and one message only: whoever comes to
// hold the operator's key later cannot change what an engine runs with, and no session finds itself on another
// engine than before. New secrets are a new start of the guest. Its methods may be called from several goroutines.
type Taker struct {
	opt  Options
	most int // bytes of the longest message
	done chan struct{}
	mu   sync.Mutex // held while secrets are kept
}

// NewTaker checks opt.
func NewTaker(opt Options) (*Taker, error) {
	if opt.Operator == nil || opt.Operator.Curve != elliptic.P256() || opt.Keep == nil {
		return nil, errors.New("secrets: options: want Operator on P-256 and Keep")
	}
	list := make([]Secret, 0, len(opt.Limits))
	for name, most := range opt.Limits {
		if most > MaxValue {
			return nil, errors.New("secrets: options: a limit over MaxValue")
		}
		list = append(list, Secret{name, make([]byte, max(0, most))})
	}
	size, err := check(list)
	if err != nil {
		return nil, err
	}
	return &Taker{opt: opt, most: headSize + maxSignature + size, done: make(chan struct{})}, nil
}

// Taken is closed when the secrets are kept.
func (t *Taker) Taken() <-chan struct{} { return t.done }

// Waits reports whether there are no secrets yet.
func (t *Taker) Waits() bool {
	select {
	case <-t.done:
		return false
	default:
		return true
	}
}

// Take reads one message to its end, which must be io.EOF, and judges it for the session that it came in. The
// error is r's, and then nothing was taken.
func (t *Taker) Take(s Session, r io.Reader) (Code, error) {
	b := make([]byte, t.most+1) // one byte more than may come tells a long message from one of just that length
	defer clear(b)
	n, err := readAll(r, b)
	if err != nil {
		return Malformed, err
	}
	if n > t.most {
		return Oversize, nil
	}
	var list []Secret
	var code Code
	erase.Do(func() { list, code = t.judge(s, b[:n]) })
	if code != Taken {
		return code, nil
	}
	return t.keep(list), nil
}

// readAll reads to io.EOF, or until b is full.
func readAll(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) {
		var k int
		k, err = r.Read(b[n:])
		n += k
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// judge looks at everything but whether there are secrets already.
func (t *Taker) judge(s Session, b []byte) ([]Secret, Code) {
	e, ok := open(b)
	switch {
	case !ok:
		return nil, Malformed
	case e.session.Handshake != s.Handshake:
		return nil, OtherSession
	case e.session.Static != s.Static:
		return nil, OtherEnclave
	case len(e.signature) == 0:
		return nil, Unsigned
	}
	if sum := sha256.Sum256(Signed(s, e.contents)); !ecdsa.VerifyASN1(t.opt.Operator, sum[:], e.signature) {
		return nil, BadSignature
	}
	list, ok := parse(e.contents)
	if !ok {
		return nil, Malformed
	}
	for _, one := range list {
		most, known := t.opt.Limits[one.Name]
		if !known {
			return nil, UnknownName
		}
		if len(one.Value) > most {
			return nil, Oversize
		}
	}
	if len(list) != len(t.opt.Limits) {
		return nil, MissingName
	}
	return list, Taken
}

func (t *Taker) keep(list []Secret) Code {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.Waits() {
		return Again
	}
	if t.opt.Keep(list) != nil { // the text may name a path; the word is enough
		return Failed
	}
	close(t.done)
	return Taken
}
