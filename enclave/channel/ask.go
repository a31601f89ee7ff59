package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"tally/enclave/evidence"
)

// Documents is a set of what a client may ask an enclave for once the session is open (PROTOCOL.md, 5).
type Documents byte

// The documents. They are answered in this order.
const (
	SessionEvidence Documents = 1 // the platform's report about this session's handshake: evidence.SessionDocument
	GPUEvidence     Documents = 2 // the set whose digest is in the key evidence, as its vendor's tools write it
	Credential      Documents = 4 // what the enclave's TPM makes of Ask.Challenge: tpm.Challenge

	allDocuments = SessionEvidence | GPUEvidence | Credential
)

// Limits of documents, in bytes.
const (
	MaxSessionEvidence = evidence.MaxDocument
	MaxGPUEvidence     = 1 << 20 // eight GPUs and four switches need some 250 KiB
	MaxCredential      = 64

	MaxChallenge = 1 << 10
)

// String names the documents of the set.
func (d Documents) String() string {
	var names []string
	for one := d.after(0); one != 0; one = d.after(one) {
		names = append(names, [...]string{SessionEvidence: "session evidence", GPUEvidence: "GPU evidence", Credential: "TPM credential"}[one])
	}
	if len(names) == 0 || d&^allDocuments != 0 {
		return fmt.Sprintf("documents 0x%02x", byte(d))
	}
	return strings.Join(names, " and ")
}

// max is the most bytes that a document has; 0 where d is not one known document.
func (d Documents) max() int {
	switch d {
	case SessionEvidence:
		return MaxSessionEvidence
	case GPUEvidence:
		return MaxGPUEvidence
	case Credential:
		return MaxCredential
	}
	return 0
}

// after returns the document of the set d that is answered after one, 0 when that was the last. After 0
// comes the first.
func (d Documents) after(one Documents) Documents {
	for _, next := range []Documents{SessionEvidence, GPUEvidence, Credential} {
		if next > one && d&next != 0 {
			return next
		}
	}
	return 0
}

// An Ask is what a client wants to see in its session.
type Ask struct {
	Nonce     [32]byte // fresh random bytes, which session evidence is bound to
	Documents Documents
	Challenge []byte // 1 to MaxChallenge bytes where Documents has Credential, none otherwise
}

// The payloads of ASK and ANSWER.
const (
	askSize      = 32 + 1    // nonce, documents; a challenge follows where one is wanted
	answerHeader = 1 + 2 + 4 // document, status, length of the whole
	maxChunk     = MaxData - answerHeader
)

func (a Ask) append(b []byte) []byte {
	return append(append(append(b, a.Nonce[:]...), byte(a.Documents)), a.Challenge...)
}

// parseAsk reads the payload of an ASK.
func parseAsk(p []byte) (a Ask, err error) {
	if len(p) < askSize {
		return a, fmt.Errorf("channel: ask of %d bytes, want at least %d", len(p), askSize)
	}
	copy(a.Nonce[:], p)
	a.Documents = Documents(p[32])
	if a.Documents == 0 || a.Documents&^allDocuments != 0 {
		return a, fmt.Errorf("channel: ask for documents 0x%02x, want 1 to 7", p[32])
	}
	if n := len(p) - askSize; n > MaxChallenge || (n > 0) != (a.Documents&Credential != 0) {
		return a, fmt.Errorf("channel: ask for %v with a challenge of %d bytes", a.Documents, n)
	}
	a.Challenge = append(a.Challenge, p[askSize:]...) // the record's buffer is not ours
	return a, nil
}

// An answer is the payload of an ANSWER: a part of a document, or the word that there will be none.
type answer struct {
	document Documents // one
	status   Status    // StatusOK, StatusFailed or StatusNone
	total    int       // bytes of the whole document; 0 with a status other than StatusOK
	data     []byte
}

func (a answer) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, byte(a.document)), uint16(a.status))
	return append(binary.BigEndian.AppendUint32(b, uint32(a.total)), a.data...)
}

// parseAnswer reads the payload of an ANSWER; data points into p.
func parseAnswer(p []byte) (a answer, err error) {
	if len(p) < answerHeader || len(p) > MaxData {
		return a, fmt.Errorf("channel: answer of %d bytes", len(p))
	}
	a = answer{Documents(p[0]), Status(binary.BigEndian.Uint16(p[1:])), int(binary.BigEndian.Uint32(p[3:])), p[answerHeader:]}
	limit := a.document.max()
	switch {
	case limit == 0:
		return a, fmt.Errorf("channel: answer with document 0x%02x, want 1, 2 or 4", p[0])
	case a.status == StatusOK && (a.total < 1 || a.total > limit):
		return a, fmt.Errorf("channel: %v of %d bytes, want 1 to %d", a.document, a.total, limit)
	case a.status == StatusOK && (len(a.data) < 1 || len(a.data) > a.total):
		return a, fmt.Errorf("channel: answer with %d of %d bytes", len(a.data), a.total)
	case a.status == StatusOK:
		return a, nil
	case a.status != StatusFailed && a.status != StatusNone:
		return a, fmt.Errorf("channel: answer with status %d", a.status)
	case a.total != 0 || len(a.data) != 0:
		return a, errors.New("channel: answer with a status and a document")
	}
	return a, nil
}

// eachAnswer cuts a document into the payloads of its records; end is true with the last.
func eachAnswer(one Documents, status Status, doc []byte, send func(payload []byte, end bool) error) error {
	for a := (answer{document: one, status: status, total: len(doc)}); ; {
		n := min(maxChunk, len(doc))
		a.data, doc = doc[:n], doc[n:]
		if err := send(a.append(nil), len(doc) == 0); err != nil || len(doc) == 0 {
			return err
		}
	}
}

// A question is an ASK whose answer is being received.
type question struct {
	ask    Ask
	next   Documents // of which more must come; 0: the answer is whole
	total  int       // bytes of it; 0: nothing has come yet
	buf    []byte
	answer Answer
	err    error // the first document that the enclave does not give
}

func newQuestion(a Ask) *question { return &question{ask: a, next: a.Documents.after(0)} }

// take adds what a record brings. There is one way to cut a document into records.
func (q *question) take(p []byte) error {
	a, err := parseAnswer(p)
	switch {
	case err != nil:
		return err
	case a.document != q.next:
		return fmt.Errorf("channel: answer with %v, want %v", a.document, q.next)
	case a.status != StatusOK && q.total != 0:
		return fmt.Errorf("channel: %v breaks off", a.document)
	case a.status != StatusOK:
		if q.err == nil {
			q.err = &AnswerError{a.document, a.status}
		}
		q.next = q.ask.Documents.after(q.next)
		return nil
	case q.total != 0 && a.total != q.total:
		return fmt.Errorf("channel: %v of %d bytes, and of %d", a.document, q.total, a.total)
	}
	if want := min(maxChunk, a.total-len(q.buf)); len(a.data) != want {
		return fmt.Errorf("channel: answer with %d bytes of a document, want %d", len(a.data), want)
	}
	q.total, q.buf = a.total, append(q.buf, a.data...)
	if len(q.buf) == q.total {
		q.finish()
	}
	return nil
}

// finish keeps a whole document and turns to the next.
func (q *question) finish() {
	switch q.next {
	case SessionEvidence:
		q.answer.Session = q.buf
	case GPUEvidence:
		q.answer.GPU = q.buf
	case Credential:
		q.answer.Credential = q.buf
	}
	q.next, q.total, q.buf = q.ask.Documents.after(q.next), 0, nil
}
