package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"tally/enclave"
	"tally/enclave/attest/insecure"
)

// runChat is `tally chat` on w with stdin.
func runChat(t *testing.T, w connectWorld, stdin string, args ...string) (int, string, string) {
	t.Helper()
	var out, talk bytes.Buffer
	all := append([]string{"tally", "chat", w.addr, "--policy", w.path("policy.yaml"), "--bundle", w.path("b.json")}, args...)
	code := Main(t.Context(), all, strings.NewReader(stdin), &out, &talk)
	return code, out.String(), talk.String()
}

const note = "[insecure: the host can forge this] "

func TestChatMessage(t *testing.T) {
	w, fake := newInferWorld(t)
	code, out, talk := runChat(t, w, "", "--message", "let there\nbe \x1b[2Jlight", "--system", "be brief", "--model", "m", "--max-tokens", "7")
	if want := note + "let there\n" + note + "be [2Jlight\n"; code != 0 || out != want {
		t.Errorf("exit %d, %q, want %q", code, out, want)
	}
	if !strings.Contains(talk, "ACCEPTED") || !strings.Contains(talk, "ok") {
		t.Errorf("nothing shown of what was checked: %s", talk)
	}
	requests, _ := fake.Requests()
	b, _ := json.Marshal(requests[0]["messages"])
	if string(b) != `[{"content":"be brief","role":"system"},{"content":"let there\nbe \u001b[2Jlight","role":"user"}]` || requests[0]["model"] != "m" || requests[0]["max_tokens"] != 7.0 {
		t.Errorf("%v", requests[0])
	}
}

func TestChatJSON(t *testing.T) {
	w, _ := newInferWorld(t)
	code, out, talk := runChat(t, w, "", "--message", "hello", "--json", "--quiet")
	var a struct {
		Schema, Reply string
		Finish        string `json:"finish_reason"`
		Connection    struct{ Schema, Note, Key string }
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil || code != 0 || talk != "" {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, talk)
	}
	if a.Schema != "tally.chat/v1" || a.Reply != "hello" || a.Finish != "stop" || a.Connection.Schema != "tally.connection/v1" || a.Connection.Note == "" || len(a.Connection.Key) != 64 {
		t.Errorf("%+v", a)
	}
}

// TestChatLines: a conversation, each message with all that came before.
func TestChatLines(t *testing.T) {
	w, fake := newInferWorld(t)
	code, out, talk := runChat(t, w, "first\n\nsecond one\n/quit\nnever\n", "--quiet")
	if want := note + "first\n" + note + "second one\n"; code != 0 || out != want || talk != "" {
		t.Errorf("exit %d, %q, %s", code, out, talk)
	}
	requests, _ := fake.Requests()
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	b, _ := json.Marshal(requests[1]["messages"])
	if string(b) != `[{"content":"first","role":"user"},{"content":"first","role":"assistant"},{"content":"second one","role":"user"}]` {
		t.Errorf("%s", b)
	}
}

// TestChatFails: no whole answer is exit 1, and with --message no output.
func TestChatFails(t *testing.T) {
	w, fake := newInferWorld(t)
	for text, want := range map[string]string{"break": "the answer is incomplete", "die": "status 502"} {
		code, out, talk := runChat(t, w, "", "--message", text, "--quiet")
		if code != 1 || out != "" || !strings.Contains(talk, want) {
			t.Errorf("%s: exit %d\n%s%s", text, code, out, talk)
		}
	}
	if code, _, talk := runChat(t, w, "break\nnever\n", "--quiet"); code != 1 || !strings.Contains(talk, "incomplete") {
		t.Errorf("lines: exit %d, %s", code, talk)
	}
	fake.Stop()
	if code, out, talk := runChat(t, w, "", "--message", "a", "--quiet"); code != 1 || out != "" || !strings.Contains(talk, "the engine is not running") {
		t.Errorf("no engine: exit %d\n%s%s", code, out, talk)
	}
}

// TestChatWithoutModel: an enclave that serves something else than a model is said to, not at an address that nobody typed.
func TestChatWithoutModel(t *testing.T) {
	w := newConnectWorld(t, insecure.Attester{}, enclave.Echo{})
	code, out, talk := runChat(t, w, "", "--message", "a", "--quiet")
	if code != 1 || out != "" || !strings.HasPrefix(talk, "tally: error: no answer of a model: ") || strings.Contains(talk, "://") {
		t.Errorf("exit %d\n%s%s", code, out, talk)
	}
}

// FuzzEvents: an answer is whole only with its end mark, whatever else a stream holds.
func FuzzEvents(f *testing.F) {
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"))
	f.Add([]byte("data: {\"error\":{}}\n\n: comment\nevent: x\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		w := &answerWriter{w: &out, note: "n"}
		_, err := readEvents(bytes.NewReader(in), w)
		if err == nil && !bytes.Contains(in, []byte("data: [DONE]")) {
			t.Errorf("%q is whole", in)
		}
		for _, r := range out.String() {
			if r < 0x20 && r != '\n' && r != '\t' || r == 0x7f {
				t.Errorf("%q is written", out.String())
			}
		}
	})
}
