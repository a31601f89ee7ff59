package listen

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/attesttest"
	"tally/enclave/confer"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
	"tally/enclave/operate"
	"tally/internal/testtool"
)

// A world is a listener before an engine.
type world struct {
	fake    *infertest.Engine
	addr    string
	metrics *operate.Metrics
	log     *bytes.Buffer
	done    chan error
	stop    context.CancelFunc
}

// oneAMD is fake hardware, made once: its RSA keys are slow.
var oneAMD = sync.OnceValues(func() (*attesttest.AMD, error) { return attesttest.NewAMD(time.Now()) })

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	m, err := oneAMD()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{fake: infertest.Start(t), metrics: new(operate.Metrics), log: new(bytes.Buffer), done: make(chan error, 1)}
	engine, err := infer.New(infer.Options{Socket: w.fake.Socket, Observe: w.metrics.Request}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Attester: m, Engine: engine, Rand: rand.Reader, Now: time.Now, ContextTokens: 4096, Observe: w.metrics.ConferSession,
		Logger: slog.New(operate.Handler(slog.NewTextHandler(&locked{w: w.log}, nil)))}
	if change != nil {
		change(&opt)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	go func() { w.done <- Serve(ctx, ln, opt) }()
	t.Cleanup(w.end(t))
	return w
}

// end stops the listener, once, and wants no error of it.
func (w *world) end(t testing.TB) func() {
	return sync.OnceFunc(func() {
		w.stop()
		select {
		case err := <-w.done:
			if err != nil {
				t.Error(err)
			}
			w.done <- nil
		case <-time.After(10 * time.Second):
			t.Error("it does not end")
		}
	})
}

type locked struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (w *world) dial(t testing.TB) *confer.Client {
	t.Helper()
	c, err := w.try(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// try opens a session whose evidence must be a report about its key.
func (w *world) try(ctx context.Context) (*confer.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return confer.DialWebSocket(ctx, "ws://"+w.addr+Path+"?token=secret", nil, confer.Config{Rand: rand.Reader, Judge: func(_ context.Context, e *confer.Evidence) error {
		_, err := e.Report()
		return err
	}})
}

func send(t testing.TB, c *confer.Client, id int64, verb, path, body string) {
	t.Helper()
	r := &confer.Request{ID: id, Verb: verb, Path: path}
	if body != "" {
		r.Body = []byte(body)
	}
	if err := c.Send(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// receive wants a response to a request.
func receive(t testing.TB, c *confer.Client, id int64) (status int32, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := c.Receive(ctx)
	if err != nil || r.ID != id {
		t.Fatalf("%+v, %v", r, err)
	}
	return r.Status, string(r.Body)
}

const chatPath = "/v1/vllm/chat/completions"

func chat(text, more string) string {
	b, _ := json.Marshal(text)
	return `{"messages":[{"role":"user","content":` + string(b) + `}]` + more + `}`
}

// pieces reads a streamed answer to its completion, or to an answer that is none.
func pieces(t testing.TB, c *confer.Client, id int64) (all []string) {
	t.Helper()
	for {
		status, body := receive(t, c, id)
		text := strings.TrimRight(body, " ")
		if status != 200 {
			return append(all, fmt.Sprintf("%d %s", status, body))
		}
		if len(body)%bucket != 0 {
			t.Errorf("a piece of %d bytes", len(body))
		}
		all = append(all, text)
		if strings.Contains(text, `"completion"`) {
			return all
		}
	}
}

func TestAnswers(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial(t)
	for i, x := range []struct{ verb, path, body, want string }{
		{"GET", "/ping", "", "200 PONG"},
		{"POST", "/ping", "", "404 Route not found"},
		{"POST", "/v1/document/extract", "{}", "404 Route not found"},
		{"POST", "/v1/chat/completions", "{}", "404 Route not found"},
		{"POST", chatPath, chat("in the beginning", `,"stream":false`), "200 in the beginning"},
		{"POST", chatPath, chat("tool", `,"stream":false,"clientTools":[{"name":"look","description":"","parameters":{}}]`), "200 "},
		{"POST", chatPath, "", "400 Request body is required"},
		{"POST", chatPath, "{", "400 Invalid ChatRequest body"},
		{"POST", chatPath, chat("a", ""), "400 Invalid ChatRequest body"},
		{"POST", chatPath, chat("a", `,"stream":false,"tools":[]`), "400 Invalid ChatRequest body"},
		{"POST", chatPath, chat("a", `,"stream":false} {`), "400 Invalid ChatRequest body"},
		{"POST", chatPath, `{"stream":false,"messages":[{"role":"root","content":"a"}]}`, "400 Invalid ChatRequest body"},
		{"POST", chatPath, `{"stream":false,"messages":[{"role":"tool_call","content":"a"}]}`, "400 Invalid ChatRequest body"},
		{"POST", chatPath, `{"stream":false,"messages":[{"role":"tool_response","content":"{\"toolCallId\":\"1\",\"toolArguments\":\"\"}"}]}`, "400 Invalid ChatRequest body"},
		{"POST", chatPath, chat("a", `,"stream":false,"clientTools":[{"name":"x","parameters":1}]`), "400 Invalid ChatRequest body"},
		{"POST", chatPath, chat("a", `,"stream":false,"maxTokens":99999999`), "400 n and best_of may be 1, token limits must be whole numbers up to the enclave's, logprobs at most 20"},
		{"POST", chatPath, chat("die", `,"stream":false`), "502 the engine ended before it answered; it is being started again"},
		{"POST", "/v1/embeddings", `{"texts":["a","b"]}`, `200 {"embeddings":[[0.5,-0.25],[1.5,-0.25]],"dimension":2}`},
		{"POST", "/v1/embeddings", `{"texts":[]}`, "400 texts: want 1 to 64"},
		{"POST", "/v1/embeddings", `{"texts":["` + strings.Repeat(`a","`, 64) + `"]}`, "400 texts: want 1 to 64"},
		{"POST", "/v1/embeddings", `{"input":"a"}`, "400 Invalid EmbeddingRequest body"},
	} {
		send(t, c, int64(i), x.verb, x.path, x.body)
		if status, body := receive(t, c, int64(i)); fmt.Sprintf("%d %s", status, body) != x.want {
			t.Errorf("%s %s %.80s: %d %q, want %q", x.verb, x.path, x.body, status, body, x.want)
		}
	}
	w.fake.Stop()
	send(t, c, -1, "POST", chatPath, chat("a", `,"stream":true`))
	if status, body := receive(t, c, -1); status != 503 || !strings.Contains(body, "not running") {
		t.Errorf("without an engine: %d %s", status, body)
	}
}

func TestStreams(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial(t)
	tools := `,"stream":true,"clientTools":[{"name":"look","description":"<at> it","parameters":{"type":"object"}}]`
	for i, x := range []struct{ body, want string }{
		{chat("let <there> be", `,"stream":true`), `{"type":"token","content":"let "}|{"type":"token","content":"<there> "}|{"type":"token","content":"be"}|{"type":"completion","context_tokens":4,"max_context_tokens":4096}`},
		{chat("tool", tools), `{"type":"client_tool_call","tool_call_id":"call_1","tool_name":"look","tool_arguments":"{\"at\":\"it\"}"}|{"type":"completion","pending_tool_calls":true,"context_tokens":2,"max_context_tokens":4096}`},
		{chat("tool", strings.Replace(tools, "look", "other", 1)), `{"type":"tool_call","tool_call_id":"call_1","tool_name":"look","tool_arguments":"{\"at\":\"it\"}"}|{"type":"completion","context_tokens":2,"max_context_tokens":4096}`},
		{chat("break", `,"stream":true`), `{"type":"token","content":"break"}|500 The answer is incomplete`},
	} {
		send(t, c, int64(i), "POST", chatPath, x.body)
		if got := strings.Join(pieces(t, c, int64(i)), "|"); got != x.want {
			t.Errorf("%s:\n%s\nwant\n%s", x.body, got, x.want)
		}
	}
}

// TestTranslated holds what the engine is asked to what was asked in Confer's words.
func TestTranslated(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"all": {`{"messages":[{"role":"system","content":"s"},{"role":"developer","content":"d"},{"role":"user","content":"u"},
			{"role":"tool_call","content":"{\"toolCallId\":\"7\",\"toolName\":\"look\",\"toolArguments\":\"{}\"}"},
			{"role":"tool_response","content":"{\"toolCallId\":\"7\",\"toolName\":\"look\",\"content\":\"seen\"}"},{"role":"assistant","content":"a"}],
			"model":"m","temperature":0.5,"maxTokens":7,"stream":true,"json":true,"thinking":true,"webSearch":true,
			"clientTools":[{"name":"look","description":"d","parameters":{"type":"object"}}]}`,
			`{"messages":[{"role":"system","content":"s"},{"role":"developer","content":"d"},{"role":"user","content":"u"},` +
				`{"role":"assistant","tool_calls":[{"id":"7","type":"function","function":{"name":"look","arguments":"{}"}}]},` +
				`{"role":"tool","content":"seen","tool_call_id":"7"},{"role":"assistant","content":"a"}],` +
				`"model":"m","temperature":0.5,"max_tokens":7,"stream":true,"stream_options":{"include_usage":true},"response_format":{"type":"json_object"},` +
				`"tools":[{"type":"function","function":{"name":"look","description":"d","parameters":{"type":"object"}}}]}`},
		"nulls": {`{"messages":[],"model":null,"temperature":null,"maxTokens":null,"stream":false,"json":null,"thinking":null,"webSearch":null,"clientTools":null}`, `{"messages":[]}`},
	} {
		if got, _, _, err := translate([]byte(c.in)); err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

// TestQueries: the texts of a query are marked as confer-proxy marks them.
func TestQueries(t *testing.T) {
	w := newWorld(t, nil)
	c := w.dial(t)
	send(t, c, 1, "POST", "/v1/embeddings", `{"texts":["a"],"isQuery":true}`)
	receive(t, c, 1)
	if asked, headers := w.fake.Requests(); len(asked) != 1 || fmt.Sprint(asked[0]["input"]) != "[query: a]" || strings.Contains(fmt.Sprint(headers), "secret") {
		t.Errorf("%v, %v", asked, headers)
	}
}

// TestInterop has a client of this wire that shares no code with us talk to the listener.
func TestInterop(t *testing.T) {
	const python = "/usr/bin/python3" // where Debian's python3-dissononce is found
	if err := exec.Command(python, "-c", "import dissononce").Run(); err != nil {
		testtool.Missing(t, "Debian package python3-dissononce is not installed")
	}
	intel, err := attesttest.NewIntel(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for platform, a := range map[string]enclave.Attester{"SEV-SNP 1184": nil, "TDX ": intel} {
		w := newWorld(t, func(o *Options) {
			if a != nil {
				o.Attester = a
			}
			o.Manifest = func(context.Context) ([]byte, []byte, error) {
				return []byte(`{"imageVersion":"<7>"}`), []byte(`{"b":"é"}`), nil
			}
		})
		_, port, _ := net.SplitHostPort(w.addr)
		out, err := exec.CommandContext(t.Context(), python, "testdata/interop.py", port).CombinedOutput()
		first, rest, _ := strings.Cut(string(out), "\n")
		if err != nil || !strings.HasPrefix(first, platform) || !strings.HasSuffix(first, ` {"imageVersion":"<7>"} {"b":"é"}`) || rest != `1 200 PONG
2 200 {"type": "token", "content": "let "}
2 200 {"type": "token", "content": "there "}
2 200 {"type": "token", "content": "be "}
2 200 {"type": "token", "content": "light"}
2 200 {"type": "completion", "context_tokens": 5, "max_context_tokens": 4096}
3 200 100000 {'x'}
4 200 {"embeddings":[[0.5,-0.25],[1.5,-0.25]],"dimension":2}
5 404 Route not found
` {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// TestAttesters: an attester that Confer's clients do not know stands behind the listener only where that is asked for, and then
// they see it.
func TestAttesters(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	engine, err := infer.New(infer.Options{Socket: "/none"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Attester: insecure.Attester{}, Engine: engine, Rand: rand.Reader, Now: time.Now, ContextTokens: 1, Observe: func(enclave.Event) {}, Logger: slog.New(slog.DiscardHandler)}
	if err := Serve(t.Context(), ln, opt); err == nil || !strings.Contains(err.Error(), `attester "insecure": Confer's clients know reports by snp and tdx alone`) {
		t.Errorf("%v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v: it still listens", err)
	}
	w := newWorld(t, func(o *Options) { o.Attester, o.InsecureAttester = insecure.Attester{}, true })
	if _, err := w.try(t.Context()); err == nil || !strings.Contains(err.Error(), `"insecure" has no report`) {
		t.Errorf("%v, want a client that knows SNP to refuse", err)
	}
	for name, spoil := range map[string]func(*Options){
		"nothing":   func(o *Options) { *o = Options{} },
		"no engine": func(o *Options) { o.Engine = nil },
		"tokens":    func(o *Options) { o.ContextTokens = 0 },
		"sessions":  func(o *Options) { o.MaxSessions = -1 },
		"lifetime":  func(o *Options) { o.KeyLifetime = -1 },
	} {
		bad := opt
		spoil(&bad)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := Serve(t.Context(), ln, bad); err == nil || !strings.Contains(err.Error(), "options") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPath: there is nothing but the WebSocket, and that says nothing of what is wrong.
func TestPath(t *testing.T) {
	w := newWorld(t, nil)
	for path, want := range map[string]int{"/": 404, "/websocket2?token=secret": 404, "/metrics": 404, Path: http.StatusUpgradeRequired} {
		resp, err := http.Get("http://" + w.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	c, _, err := websocket.Dial(t.Context(), "ws://"+w.addr+Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(t.Context()); err == nil {
		t.Error("a text message was answered")
	}
}
