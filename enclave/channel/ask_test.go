package channel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// content is what testdata/ask.py fills documents with.
func content(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(7*i + i/251)
	}
	return b
}

// TestAskVectors holds both directions to records that Python wrote.
func TestAskVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/ask.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Ask []struct {
			Name, Nonce, Challenge, Record string
			Documents                      Documents
		}
		Answer []struct {
			Name, First   string
			ContentSHA256 string `json:"content_sha256"`
			RecordsSHA256 string `json:"records_sha256"`
			Document      Documents
			Status        Status
			Size, Records int
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.Ask) == 0 || len(v.Answer) == 0 {
		t.Fatalf("%v, %d and %d vectors", err, len(v.Ask), len(v.Answer))
	}
	for _, c := range v.Ask {
		a := Ask{Documents: c.Documents}
		hex.Decode(a.Nonce[:], []byte(c.Nonce))
		if c.Challenge != "" {
			a.Challenge, _ = hex.DecodeString(c.Challenge)
		}
		plain, err := appendRecord(nil, &Record{Type: askRecord, Payload: a.append(nil)})
		if err != nil || hex.EncodeToString(plain) != c.Record {
			t.Errorf("%s: %x, %v; want %s", c.Name, plain, err, c.Record)
		}
		r, err := parseRecord(plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseAsk(r.Payload); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: read as %+v, %v", c.Name, got, err)
		}
	}
	for _, c := range v.Answer {
		doc, all := content(c.Size), []byte(nil)
		if sum := sha256.Sum256(doc); hex.EncodeToString(sum[:]) != c.ContentSHA256 {
			t.Fatalf("%s: this test's content is not the vector's", c.Name)
		}
		q, n := newQuestion(Ask{Documents: c.Document}), 0
		err := eachAnswer(c.Document, c.Status, doc, func(p []byte, _ bool) error {
			n++
			plain, err := appendRecord(nil, &Record{Type: answerRecord, Payload: p})
			if err != nil {
				return err
			}
			all = append(all, plain...)
			return q.take(p)
		})
		sum := sha256.Sum256(all)
		if err != nil || n != c.Records || !strings.HasPrefix(hex.EncodeToString(all), c.First) || hex.EncodeToString(sum[:]) != c.RecordsSHA256 {
			t.Errorf("%s: %d records, %x…, %v; want %d, %s…", c.Name, n, all[:48], err, c.Records, c.First)
		}
		got := map[Documents][]byte{SessionEvidence: q.answer.Session, GPUEvidence: q.answer.GPU, Credential: q.answer.Credential}[c.Document]
		var none *AnswerError
		if q.next != 0 || !bytes.Equal(got, doc) || (c.Status != StatusOK) != errors.As(q.err, &none) {
			t.Errorf("%s: %d bytes came back, %v", c.Name, len(got), q.err)
		}
	}
}

// TestAsk: documents of every length come whole, several times in a session, beside streams.
func TestAsk(t *testing.T) {
	var asked []Ask
	var size int
	client, server := muxes(t, MuxOptions{Answer: func(_ context.Context, one Documents, ask Ask) ([]byte, error) {
		asked = append(asked, ask)
		return content(min(size, one.max())), nil
	}})
	echoStreams(t, server)
	for i, n := range []int{1, maxChunk - 1, maxChunk, maxChunk + 1, MaxSessionEvidence, MaxGPUEvidence} {
		size = n
		want := Ask{[32]byte{byte(i + 1)}, allDocuments, content(i + 1)}
		done := make(chan error, 1)
		go func() {
			got, err := ask(t.Context(), client, content(100000))
			if err == nil && !bytes.Equal(got, content(100000)) {
				err = fmt.Errorf("%d bytes came back", len(got))
			}
			done <- err
		}()
		a, err := client.Ask(t.Context(), want, 0)
		if err != nil || !bytes.Equal(a.Session, content(min(n, MaxSessionEvidence))) || !bytes.Equal(a.GPU, content(n)) || !bytes.Equal(a.Credential, content(min(n, MaxCredential))) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := <-done; err != nil {
			t.Errorf("a stream beside it: %v", err)
		}
		if !reflect.DeepEqual(asked, []Ask{want, want, want}) {
			t.Errorf("the enclave's side was asked %x", asked)
		}
		asked = nil
	}
	if a, err := client.Ask(t.Context(), Ask{Documents: GPUEvidence}, 0); err != nil || a.Session != nil || len(a.GPU) != MaxGPUEvidence {
		t.Errorf("one document: %v", err)
	}
	for _, bad := range []Documents{0, 4, 7, 8, 0x80} {
		if _, err := client.Ask(t.Context(), Ask{Documents: bad}, 0); err == nil {
			t.Errorf("documents 0x%02x may be asked for", byte(bad))
		}
	}
	if _, err := server.Ask(t.Context(), Ask{Documents: SessionEvidence}, 0); err == nil {
		t.Error("a server asks")
	}
}

// TestNoDocument: what the enclave does not give is an error that says so, and the session goes on.
func TestNoDocument(t *testing.T) {
	var fail error
	var doc []byte
	client, server := muxes(t, MuxOptions{Answer: func(_ context.Context, one Documents, _ Ask) ([]byte, error) {
		if one == GPUEvidence {
			return []byte("set"), nil
		}
		return doc, fail
	}})
	echoStreams(t, server)
	for name, c := range map[string]struct {
		fail error
		doc  []byte
		want Status
	}{
		"none":      {fmt.Errorf("wrapped: %w", ErrNoDocument), nil, StatusNone},
		"failed":    {errors.New("the TSM is broken"), nil, StatusFailed},
		"empty":     {nil, nil, StatusFailed},
		"too large": {nil, make([]byte, MaxSessionEvidence+1), StatusFailed},
	} {
		fail, doc = c.fail, c.doc
		a, err := client.Ask(t.Context(), Ask{Documents: SessionEvidence | GPUEvidence}, 0)
		var no *AnswerError
		if a != nil || !errors.As(err, &no) || no.Document != SessionEvidence || no.Status != c.want || strings.Contains(err.Error(), "TSM") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := ask(t.Context(), client, []byte("hello")); err != nil || string(got) != "hello" {
		t.Errorf("the session did not go on: %v", err)
	}
	// A server that has nothing to give says so as well.
	client, _ = muxes(t, MuxOptions{})
	var no *AnswerError
	if _, err := client.Ask(t.Context(), Ask{Documents: GPUEvidence}, 0); !errors.As(err, &no) || no.Status != StatusNone || no.Document != GPUEvidence {
		t.Errorf("a server without documents: %v", err)
	}
}

// part is a record of an answer.
func part(one Documents, status Status, total int, data []byte) Record {
	return Record{Type: answerRecord, Payload: answer{one, status, total, data}.append(nil)}
}

// TestRogueAnswers: an enclave's answer that is not to the letter ends the session.
func TestRogueAnswers(t *testing.T) {
	s, g := SessionEvidence, GPUEvidence
	full := make([]byte, maxChunk)
	for want, answers := range map[string][]Record{
		"answer with GPU evidence, want session":  {part(g, 0, 1, full[:1])},
		"want 1, 2 or 4":                          {part(3, 0, 1, full[:1])},
		"session evidence of 49153 bytes, want 1": {part(s, 0, MaxSessionEvidence+1, full)},
		"GPU evidence of 1048577 bytes, want 1":   {part(s, 0, 1, full[:1]), part(g, 0, MaxGPUEvidence+1, full)},
		"session evidence of 0 bytes":             {part(s, 0, 0, nil)},
		"answer with 0 of 5 bytes":                {part(s, 0, 5, nil)},
		"answer with 6 of 5 bytes":                {part(s, 0, 5, full[:6])},
		"answer with 4 bytes of a document":       {part(s, 0, 5, full[:4])},
		"of 20000 bytes, and of 20001":            {part(s, 0, 20000, full), part(s, 0, 20001, full[:20000-maxChunk])},
		"answer with 16369 bytes of a document":   {part(s, 0, 20000, full), part(s, 0, 20000, full)},
		"session evidence breaks off":             {part(s, 0, 20000, full), part(s, StatusFailed, 0, nil)},
		"answer with status 2":                    {part(s, StatusTooLong, 0, nil)},
		"a status and a document":                 {part(s, StatusNone, 1, full[:1])},
		"answer with session evidence, want GPU":  {part(s, 0, 1, full[:1]), part(s, 0, 1, full[:1])},
		"the enclave asks":                        {{Type: askRecord, Payload: Ask{Documents: s}.append(nil)}},
		"record of type 9 on stream 1":            {{Type: answerRecord, Stream: 1, Payload: part(s, 0, 1, full[:1]).Payload}},
		"authenticated close":                     {part(s, 0, 20000, full), {Type: Close}},
	} {
		a, b := session(t, config(), config())
		client := NewMux(a, MuxOptions{})
		go func() {
			if r, err := b.Receive(t.Context()); err != nil || r.Type != askRecord {
				t.Errorf("%s: record of type %d, %v", want, r.Type, err)
			}
			for _, r := range answers {
				// What our own writer refuses a rogue one does not.
				if err := b.sendRaw(t.Context(), r); err != nil {
					return
				}
			}
		}()
		got, err := client.Ask(t.Context(), Ask{Documents: SessionEvidence | GPUEvidence}, 10*time.Second)
		if got != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
		if client.ctx.Err() == nil {
			t.Errorf("%s: the session goes on", want)
		}
		client.Abort()
		b.Abort()
	}
}

// sendRaw seals a record whatever it says.
func (c *Conn) sendRaw(ctx context.Context, r Record) error {
	plain := binary.BigEndian.AppendUint32([]byte{0, 0, byte(r.Type), 0}, r.Stream)
	plain = append(binary.BigEndian.AppendUint16(plain, uint16(len(r.Payload))), r.Payload...)
	plain = append(plain, make([]byte, 2+plainSize(len(r.Payload))-len(plain))...)
	buf, err := c.w.cs.Encrypt(plain[:2], nil, plain[2:])
	if err != nil {
		return err
	}
	return withContext(ctx, c.conn.SetWriteDeadline, func() error { return writeFrame(c.conn, buf) })
}

// TestUnaskedAnswer: nothing may come that was not asked for, nor after it is whole.
func TestUnaskedAnswer(t *testing.T) {
	for _, asked := range []bool{false, true} {
		a, b := session(t, config(), config())
		client := NewMux(a, MuxOptions{})
		if asked {
			go func() {
				b.Receive(t.Context())
				b.Send(t.Context(), part(SessionEvidence, 0, 3, []byte("abc")))
			}()
			if got, err := client.Ask(t.Context(), Ask{Documents: SessionEvidence}, 0); err != nil || string(got.Session) != "abc" {
				t.Fatal(err)
			}
		}
		b.Send(t.Context(), part(SessionEvidence, 0, 3, []byte("abc")))
		<-client.ctx.Done()
		if err := context.Cause(client.ctx); !errors.Is(err, ErrBadAnswer) || !strings.Contains(err.Error(), "nothing was asked") {
			t.Errorf("%v", err)
		}
		client.Abort()
		b.Abort()
	}
}

// TestNoAnswer: a client does not wait for ever, and the session is over then.
func TestNoAnswer(t *testing.T) {
	for _, first := range [][]Record{nil, {part(SessionEvidence, 0, 20000, make([]byte, maxChunk))}} {
		a, b := session(t, config(), config())
		client := NewMux(a, MuxOptions{})
		go func() {
			b.Receive(t.Context())
			for _, r := range first {
				b.Send(t.Context(), r)
			}
		}()
		_, err := client.Ask(t.Context(), Ask{Documents: SessionEvidence}, 50*time.Millisecond)
		if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "no answer within 50ms") {
			t.Errorf("%v", err)
		}
		if _, err := client.Open(t.Context()); err == nil {
			t.Error("a stream was opened after it")
		}
		client.Abort()
		b.Abort()
	}
	client, _ := muxes(t, MuxOptions{Answer: func(ctx context.Context, _ Documents, _ Ask) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(errors.New("the user left")) })
	if _, err := client.Ask(ctx, Ask{Documents: SessionEvidence}, 0); err == nil || err.Error() != "the user left" {
		t.Errorf("%v", err)
	}
}

// TestRogueAsks: a client that does not wait for the answer, or asks for what nobody knows, has no session.
func TestRogueAsks(t *testing.T) {
	good := Record{Type: askRecord, Payload: Ask{Documents: SessionEvidence}.append(nil)}
	for want, records := range map[string][]Record{
		"asked again before the answer": {good, good},
		"ask for documents 0x00":        {{Type: askRecord, Payload: make([]byte, askSize)}},
		"ask for documents 0x09":        {{Type: askRecord, Payload: append(make([]byte, 32), 9)}},
		"a challenge of 0 bytes":        {{Type: askRecord, Payload: append(make([]byte, 32), 5)}},
		"a challenge of 1 bytes":        {{Type: askRecord, Payload: append(make([]byte, 32), 3, 0)}},
		"a challenge of 1025 bytes":     {{Type: askRecord, Payload: append(append(make([]byte, 32), 4), make([]byte, MaxChallenge+1)...)}},
		"ask of 32 bytes":               {{Type: askRecord, Payload: make([]byte, 32)}},
		"record of type 8 on stream 1":  {{Type: askRecord, Stream: 1, Payload: good.Payload}},
		"nothing was asked":             {part(SessionEvidence, 0, 1, []byte{1})},
	} {
		a, b := session(t, config(), config())
		block := make(chan struct{})
		server := NewMux(b, MuxOptions{Server: true, Answer: func(context.Context, Documents, Ask) ([]byte, error) {
			<-block
			return []byte("late"), nil
		}})
		for _, r := range records {
			if err := a.sendRaw(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := server.Accept(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
		close(block)
		server.Abort()
		a.Abort()
	}
}

// TestAskKeepsSession: while an answer is made the session is not idle, and afterwards its time begins anew.
func TestAskKeepsSession(t *testing.T) {
	client, server := muxes(t, MuxOptions{Idle: 400 * time.Millisecond, Answer: func(context.Context, Documents, Ask) ([]byte, error) {
		time.Sleep(700 * time.Millisecond)
		return []byte("evidence"), nil
	}})
	if _, err := client.Ask(t.Context(), Ask{Documents: SessionEvidence}, 0); err != nil {
		t.Fatal(err)
	}
	<-server.ctx.Done()
	if err := context.Cause(server.ctx); err != ErrIdle {
		t.Errorf("%v", err)
	}
}

// FuzzAnswer gives the receiver whatever parts: what it takes for whole has the length that was announced,
// and is cut as we would cut it.
func FuzzAnswer(f *testing.F) {
	pack := func(records ...Record) (b []byte) {
		for _, r := range records {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Payload))), r.Payload...)
		}
		return b
	}
	full := make([]byte, maxChunk)
	f.Add(byte(3), pack(part(SessionEvidence, 0, 3, []byte("abc")), part(GPUEvidence, StatusNone, 0, nil)))
	f.Add(byte(2), pack(part(GPUEvidence, 0, maxChunk+1, full), part(GPUEvidence, 0, maxChunk+1, full[:1])))
	f.Add(byte(1), pack(part(SessionEvidence, 0, 1<<31, full)))
	f.Add(byte(4), pack(part(Credential, 0, 32, full[:32])))
	f.Fuzz(func(t *testing.T, documents byte, in []byte) {
		want := Ask{Documents: Documents(documents)}
		if want.Documents&Credential != 0 {
			want.Challenge = []byte{1}
		}
		a, err := parseAsk(want.append(nil))
		if err != nil {
			return
		}
		var again []byte
		q := newQuestion(a)
		rest := in
		for q.next != 0 {
			if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
				return
			}
			n := int(binary.BigEndian.Uint16(rest))
			if q.take(rest[2:2+n]) != nil {
				return
			}
			rest = rest[2+n:]
		}
		for one, doc := range map[Documents][]byte{SessionEvidence: q.answer.Session, GPUEvidence: q.answer.GPU, Credential: q.answer.Credential} {
			if len(doc) > one.max() || doc != nil && a.Documents&one == 0 {
				t.Fatalf("%v of %d bytes, asked for %v", one, len(doc), a.Documents)
			}
		}
		if q.err != nil {
			return
		}
		for one := a.Documents.after(0); one != 0; one = a.Documents.after(one) {
			doc := map[Documents][]byte{SessionEvidence: q.answer.Session, GPUEvidence: q.answer.GPU, Credential: q.answer.Credential}[one]
			eachAnswer(one, StatusOK, doc, func(p []byte, _ bool) error {
				again = append(binary.BigEndian.AppendUint16(again, uint16(len(p))), p...)
				return nil
			})
		}
		if !bytes.Equal(again, in[:len(in)-len(rest)]) {
			t.Fatalf("accepted %d bytes that are not cut as ours", len(in)-len(rest))
		}
	})
}

// TestAskMeanwhile: what is to be done meanwhile is done before an answer counts, once, and its error ends the session
// without a wait for the answer.
func TestAskMeanwhile(t *testing.T) {
	answer := func(ctx context.Context, d Documents, _ Ask) ([]byte, error) { return []byte("abc"), nil }
	client, _ := muxes(t, MuxOptions{Answer: answer})
	times := 0
	got, err := client.AskMeanwhile(t.Context(), Ask{Documents: SessionEvidence}, 0, func() error { times++; return nil })
	if err != nil || string(got.Session) != "abc" || times != 1 {
		t.Errorf("%v, %v, %d times", got, err, times)
	}
	silent := func(ctx context.Context, d Documents, _ Ask) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	client, _ = muxes(t, MuxOptions{Answer: silent})
	bad := errors.New("forged")
	if got, err := client.AskMeanwhile(t.Context(), Ask{Documents: SessionEvidence}, time.Hour, func() error { return bad }); got != nil || !errors.Is(err, bad) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := client.Open(t.Context()); !errors.Is(err, bad) {
		t.Errorf("the session goes on: %v", err)
	}
}

// TestAnswerSizes: whatever is too short for its head, or too long for a record, is no answer.
func TestAnswerSizes(t *testing.T) {
	whole := answer{document: SessionEvidence, total: 1, data: []byte{1}}.append(nil)
	if _, err := parseAnswer(whole); err != nil {
		t.Fatal(err)
	}
	for n := range answerHeader + 1 {
		if _, err := parseAnswer(whole[:n]); err == nil {
			t.Errorf("%d bytes: accepted", n)
		}
	}
	long := answer{document: GPUEvidence, total: MaxGPUEvidence, data: make([]byte, maxChunk)}.append(nil)
	if _, err := parseAnswer(long); err != nil {
		t.Error(err)
	}
	if _, err := parseAnswer(append(long, 0)); err == nil {
		t.Error("a byte more than a record holds: accepted")
	}
}
