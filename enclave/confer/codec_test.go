package confer

import (
	"bytes"
	"crypto/rand"
	"reflect"
	"strings"
	"testing"
)

func TestEvidenceRefused(t *testing.T) {
	const good = `{"platform":"TDX","attestation":"a.b.c","manifest":"{}","manifestBundle":"{}"}`
	if _, err := parseEvidence([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":     "",
		"array":     "[]",
		"truncated": good[:len(good)-1],
		"trailing":  good + " {}",
		"missing":   `{"platform":"TDX"}`,
		"unknown":   strings.Replace(good, "platform", "Platform", 1),
		"twice":     strings.Replace(good, `"manifest":`, `"platform":"SEV-SNP","manifest":`, 1),
		"number":    strings.Replace(good, `"TDX"`, "1", 1),
		"nested":    strings.Replace(good, `"{}"`, "{}", 1),
	} {
		if _, err := parseEvidence([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMessagesRefused(t *testing.T) {
	frame := (&Frame{ID: 1, Total: 1, Payload: []byte("x")}).Marshal()
	response := (&Response{ID: 1, Status: 200, Headers: map[string]string{"a": "b"}}).Marshal()
	request, err := (&Request{ID: 1, Verb: "GET", Path: "/ping", Chunk: &Chunk{Data: []byte("x"), Seq: 3}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	parse := map[string]func([]byte) error{
		"frame":    func(b []byte) error { _, err := ParseFrame(b); return err },
		"response": func(b []byte) error { _, err := ParseResponse(b); return err },
		"request":  func(b []byte) error { _, err := ParseRequest(b); return err },
	}
	for name, good := range map[string][]byte{"frame": frame, "response": response, "request": request} {
		if err := parse[name](good); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, bad := range map[string][]byte{
			"empty":         {},
			"truncated":     good[:len(good)-1],
			"unknown field": append(bytes.Clone(good), 0x78, 1),
			"field twice":   append(bytes.Clone(good), 0x08, 1),
			"wrong type":    append([]byte{0x0a, 0}, good...),
		} {
			if err := parse[name](bad); err == nil {
				t.Errorf("%s: %s: accepted", name, what)
			}
		}
	}
	for what, bad := range map[string][]byte{
		"status 20":          {0x08, 1, 0x10, 20},
		"status of 64 bits":  {0x08, 1, 0x10, 0xc8, 0x81, 0x80, 0x80, 0x80, 0x80, 0x01},
		"a header twice":     append(bytes.Clone(response), response[5:]...),
		"header not in UTF8": {0x08, 1, 0x10, 0xc8, 1, 0x22, 3, 0x0a, 1, 0xff},
	} {
		if _, err := ParseResponse(bad); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	for _, r := range []*Request{{ID: 1}, {Verb: "GET"}, {Path: "/"}, {Verb: "GET", Path: "/", Body: []byte{0xff}}, {Chunk: &Chunk{Seq: 1 << 31}}} {
		if _, err := r.Marshal(); err == nil {
			t.Errorf("%+v: accepted", r)
		}
	}
}

func TestAssembler(t *testing.T) {
	limits := Limits{Message: 100, Held: 120, Pending: 2, Chunks: 3}
	p := make([]byte, 60)
	for name, frames := range map[string][]Frame{
		"total 0":          {{Total: 0}},
		"too many pieces":  {{Total: 4}},
		"index":            {{Total: 3, Index: 3}},
		"other total":      {{Total: 3}, {Total: 2, Index: 1}},
		"twice":            {{Total: 3}, {Total: 3}},
		"too many begun":   {{ID: 1, Total: 2}, {ID: 2, Total: 2}, {ID: 3, Total: 2}},
		"too long":         {{Total: 3, Payload: p}, {Total: 3, Index: 1, Payload: p}},
		"too much is held": {{ID: 1, Total: 2, Payload: p}, {ID: 2, Total: 3, Payload: p}, {ID: 2, Total: 3, Index: 1, Payload: p[:1]}},
	} {
		a, err := NewAssembler(limits)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range frames {
			whole, err := a.Add(&f)
			if last := i == len(frames)-1; (err != nil) != last || whole != nil {
				t.Errorf("%s: frame %d: %v", name, i, err)
			}
		}
	}
	if _, err := NewAssembler(Limits{Held: -1}); err == nil {
		t.Error("a negative limit was accepted")
	}
	// In any order, and what was held is free again.
	a, _ := NewAssembler(limits)
	for round := range 5 {
		for _, i := range []uint32{2, 0, 1} {
			whole, err := a.Add(&Frame{ID: 7, Total: 3, Index: i, Payload: bytes.Repeat([]byte{byte('a' + i)}, 30)})
			if err != nil || (whole != nil) != (i == 1) {
				t.Fatal(round, i, err)
			}
			if whole != nil && string(whole) != strings.Repeat("a", 30)+strings.Repeat("b", 30)+strings.Repeat("c", 30) {
				t.Errorf("%q", whole)
			}
		}
	}
}

func FuzzMessages(f *testing.F) {
	for _, fr := range load(f).Frames {
		if fr.Message != nil {
			f.Add(fr.Message)
		}
	}
	f.Add((&Frame{ID: -1, Index: 1, Total: 2, Payload: []byte("x")}).Marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		// What is read and written again is read as the same.
		if x, err := ParseFrame(data); err == nil {
			again, err := ParseFrame(x.Marshal())
			if err != nil || !reflect.DeepEqual(x, again) {
				t.Fatal(err)
			}
			a, _ := NewAssembler(Limits{})
			a.Add(x)
		}
		if x, err := ParseResponse(data); err == nil {
			again, err := ParseResponse(x.Marshal())
			if err != nil || x.ID != again.ID || x.Status != again.Status || !bytes.Equal(x.Body, again.Body) || !reflect.DeepEqual(x.Headers, again.Headers) {
				t.Fatal(err)
			}
		}
		if x, err := ParseRequest(data); err == nil {
			b, err := x.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseRequest(b); err != nil {
				t.Fatal(err)
			}
		}
		parseEvidence(data)
	})
}

// TestSplit holds the pieces to confer-proxy's sizes.
func TestSplit(t *testing.T) {
	for _, c := range []struct{ size, frames int }{{0, 1}, {maxChunk, 1}, {maxChunk + 1, 2}, {3 * maxChunk, 3}} {
		frames, err := Split(make([]byte, c.size), rand.Reader)
		if err != nil || len(frames) != c.frames {
			t.Fatalf("%d bytes: %d frames, want %d (%v)", c.size, len(frames), c.frames, err)
		}
		a, _ := NewAssembler(Limits{})
		for i, f := range frames {
			if n := len(f.Marshal()); n > maxPlaintext {
				t.Errorf("a frame of %d bytes", n)
			}
			whole, err := a.Add(f)
			if err != nil || (whole != nil) != (i == len(frames)-1) || whole != nil && len(whole) != c.size {
				t.Errorf("%d bytes: %v", c.size, err)
			}
		}
	}
}
