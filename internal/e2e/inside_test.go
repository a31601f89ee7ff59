package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tally/enclave/infer"
)

// answerTo is the text of a chat's answer.
func answerTo(t *testing.T, c *http.Client, message string) string {
	t.Helper()
	code, body, err := ask(t.Context(), c, message)
	var answer struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err != nil || code != http.StatusOK || json.Unmarshal([]byte(body), &answer) != nil || len(answer.Choices) != 1 {
		t.Fatalf("%s: %d, %s, %v", message, code, body, err)
	}
	return answer.Choices[0].Message.Content
}

// lookInside wants the engine in a booted guest to be what its configuration promises: what the kernel itself says there.
func lookInside(t *testing.T, c *http.Client) {
	t.Helper()
	var got map[string]string
	if err := json.Unmarshal([]byte(answerTo(t, c, "look around")), &got); err != nil {
		t.Fatal(err)
	}
	const none = "0000000000000000"
	want := map[string]string{
		"Uid": "990 990 990 990", "Gid": "990 990 990 990", "Groups": "", "CapPrm": none, "CapEff": none, "CapBnd": none, "NoNewPrivs": "1", "Seccomp": "2",
		"cgroup": "0::/engine", "core limit": "0 0", "core pattern": "|/nonexistent", "suid_dumpable": "0", "modules disabled": "1", "ptrace scope": "3",
		"/dev": "full null random urandom zero ", "/run": "engine secrets ", "processes": "1 ",
		"inet": "address family not supported by protocol", "mount": "operation not permitted", "setuid": "operation not permitted", "root": "open /core: read-only file system",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the engine's sandbox, -want +got\n%s", d)
	}
	// A process that is aborted with a question in memory leaves no core file.
	if end := answerTo(t, c, "crash, "+canary); end != "signal: aborted" {
		t.Errorf("a process that is aborted: %q", end)
	}
}

// canary is said in every place where a client can say something. The caller looks for it where it must not be.
const canary = "CANARY-5be1"

// canaries says it to an engine that repeats all it hears on its output and, when it is asked to, in its answer.
func canaries(t *testing.T, c *http.Client) {
	t.Helper()
	if text := answerTo(t, c, "repeat "+canary); !strings.Contains(text, canary) {
		t.Errorf("the model's output: %q", text)
	}
	for _, r := range []struct {
		path, body string
		status     int
	}{
		{infer.PathChat, `{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"` + canary + `","parameters":{"` + canary + `":"` + canary + `"}}}]}`, http.StatusOK},
		{infer.PathChat, `{"messages":"` + canary, http.StatusBadRequest},
		{infer.PathChat, `{"` + canary + `":1}`, http.StatusBadRequest},
		{infer.PathChat, `{"messages":[],"n":"` + canary + `"}`, http.StatusBadRequest},
		{"/v1/" + canary, "{}", http.StatusNotFound},
	} {
		if code, body, err := post(t.Context(), c, r.path, r.body, http.Header{"Authorization": {canary}, canary: {canary}}); err != nil || code != r.status || code != http.StatusOK && strings.Contains(body, canary) {
			t.Errorf("%s %s: %d, %s, %v; want %d without the word", r.path, r.body, code, body, err, r.status)
		}
	}
}

// engineDies twice, once because it takes more memory than its cgroup has: the client is told, and the next engine serves.
func engineDies(t *testing.T, c *http.Client, page func(string) string) {
	t.Helper()
	for n, word := range []string{"die", "eat"} {
		if code, body, err := ask(t.Context(), c, word+", "+canary); err != nil || code != http.StatusBadGateway || !strings.Contains(body, `"code":"engine_failed"`) {
			t.Errorf("%s: %d, %s, %v; want a clear word", word, code, body, err)
		}
		start := time.Now()
		for want := "\ntally_engine_ends_total " + string(rune('1'+n)) + "\n"; !strings.Contains(page("/metrics"), want); time.Sleep(200 * time.Millisecond) {
			if time.Since(start) > time.Minute {
				t.Fatalf("%s: no%sin\n%s", word, want, page("/metrics"))
			}
		}
		if got := answerTo(t, c, "again"); len(got) != 64 {
			t.Errorf("after %s: %q", word, got)
		}
	}
}
