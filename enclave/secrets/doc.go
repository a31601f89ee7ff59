// Package secrets carries an operator's secrets (API keys, TLS keys, keys of models) to an enclave, over an
// attested session and nowhere else. The measured configuration names the operator's public key and the secrets;
// a message is signed by that key for one session with one enclave, so that nobody can give it to another. The
// bytes on the wire are in SPEC.md.
//
//	message, err := secrets.Message(session, list, rand.Reader, sign)    the operator
//	code, err := taker.Take(session, r)                                  the enclave
package secrets

import (
	"errors"
	"fmt"
	"regexp"
	"sync"
)

// Limits. A configuration may set lower ones for each secret.
const (
	MaxSecrets = 16
	MaxName    = 63        // bytes
	MaxValue   = 64 << 10  // bytes of one
	MaxTotal   = 256 << 10 // bytes of all values together
)

// A Session is what a message is for: the handshake of the session that it travels in, and the enclave's static key.
type Session struct{ Handshake, Static [32]byte }

// A Secret is one value by its name.
type Secret struct {
	Name  string
	Value []byte // at least one byte
}

// Erase overwrites the values.
func Erase(list []Secret) {
	for _, s := range list {
		clear(s.Value)
	}
}

var nameForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`) })

// CheckName returns an error unless name can be a secret's, which is the name of a file, too.
func CheckName(name string) error {
	if !nameForm().MatchString(name) {
		return fmt.Errorf("secret %.80q: want a lower-case letter or digit, then such or ._-, at most %d in all", name, MaxName)
	}
	return nil
}

// A Code is an enclave's answer to a message. Its words are constants: nothing of a message is in them.
type Code byte

// The codes, in the order in which an enclave looks. It looks at names and values only when the signature is good.
const (
	Taken        Code = 0  // the secrets are kept, and the engine starts
	Malformed    Code = 1  // not a message of SPEC.md
	Oversize     Code = 2  // a value, or the whole, is longer than the configuration allows
	OtherSession Code = 3  // made for another session: a replay
	OtherEnclave Code = 4  // made for another static key
	Unsigned     Code = 5  // there is no signature
	BadSignature Code = 6  // not by the operator's key
	UnknownName  Code = 7  // a secret that the configuration does not name
	MissingName  Code = 8  // one that it names is not there
	Again        Code = 9  // it has its secrets: they are taken once
	Failed       Code = 10 // it could not keep them, and waits still
)

var words = [...]string{"taken", "malformed", "oversize", "other session", "other enclave", "unsigned", "signature", "unknown name", "missing name", "again", "failed"}

// String is the stable word of the code.
func (c Code) String() string {
	if int(c) < len(words) {
		return words[c]
	}
	return "other"
}

// Words returns the words of all codes.
func Words() []string { return append([]string(nil), words[:]...) }

// A RefusedError is an enclave's refusal.
type RefusedError struct{ Code Code }

// Error says the word and what it means.
func (e *RefusedError) Error() string {
	return "the enclave refuses the secrets: " + e.Code.String() + map[Code]string{
		Malformed: ": it does not understand the message", Oversize: ": longer than its configuration allows",
		OtherSession: ": they were signed for another session", OtherEnclave: ": they were signed for another enclave",
		Unsigned: ": there is no signature", BadSignature: ": not signed by the operator's key of its configuration",
		UnknownName: ": its configuration does not name all of them", MissingName: ": its configuration names more",
		Again: ": it has taken its secrets before", Failed: ": it could not keep them",
	}[e.Code]
}

// ErrNotAsked means that what answered takes no secrets.
var ErrNotAsked = errors.New("secrets: this enclave's configuration asks for none")
