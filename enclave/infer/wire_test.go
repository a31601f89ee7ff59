package infer

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestHeadBytes(t *testing.T) {
	var b bytes.Buffer
	if _, err := (RequestHead{"GET", PathModels, ""}).WriteTo(&b); err != nil || b.String() != "\x00\x2e"+`{"method":"GET","path":"/v1/models","type":""}` {
		t.Errorf("%q, %v", b.String(), err)
	}
	if _, err := (RequestHead{"GET", strings.Repeat("/", MaxHead), ""}).WriteTo(&b); err == nil {
		t.Error("a head over the limit")
	}
	for _, in := range []string{`{"status":199,"type":""}`, `{"status":600,"type":""}`, `{"status":200}`, `{"status":200,"type":""} `, `{"type":"","status":200}`} {
		if h, err := ReadResponseHead(strings.NewReader("\x00" + string(rune(len(in))) + in)); err == nil {
			t.Errorf("%s: %+v", in, h)
		}
	}
}

// FuzzHead: what is read is the one spelling of what is written.
func FuzzHead(f *testing.F) {
	f.Add([]byte("\x00\x2e" + `{"method":"GET","path":"/v1/models","type":""}`))
	f.Add([]byte("\x00\x02{}"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ReadRequestHead(bytes.NewReader(in))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if _, err := h.WriteTo(&b); err != nil || !bytes.HasPrefix(in, b.Bytes()) {
			t.Errorf("%q from %q, %v", b.Bytes(), in, err)
		}
	})
}

// FuzzBody: what passes is an object with no more than the client's keys and ours, and forbids sharing.
func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"model":"m","messages":[{"role":"user","content":"\"{[\\"}],"n":1,"max_tokens":null}`))
	f.Add([]byte(`{"n":1e400}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, no := prepare(PathChat, in, [32]byte{1}, 10)
		if no != nil {
			return
		}
		var a, b map[string]json.RawMessage
		if err := json.Unmarshal(in, &a); err != nil {
			t.Fatalf("%q passed: %v", in, err)
		}
		if err := json.Unmarshal(out, &b); err != nil || string(b["cache_prompt"]) != "false" || len(b["cache_salt"]) != 66 {
			t.Fatalf("%q from %q: %v", out, in, err)
		}
		if len(b) > len(a)+3 {
			t.Errorf("%d keys from %d", len(b), len(a))
		}
	})
}
