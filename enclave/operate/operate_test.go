package operate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/channel"
	"tally/enclave/infer"
	"tally/internal/testtool"
)

const canary = "CANARY-91c2"

// filled has seen one of everything, and words that it must not repeat.
func filled() *Metrics {
	m := new(Metrics)
	m.Request(infer.Event{Path: infer.PathChat, Status: 200, Complete: true, Duration: 50 * time.Millisecond})
	m.Request(infer.Event{Path: infer.PathChat, Status: 200, Duration: 5 * time.Second})
	m.Request(infer.Event{Path: "/v1/" + canary, Status: 404, Complete: true})
	m.Request(infer.Event{Path: infer.PathModels})
	m.Request(infer.Event{Path: infer.PathModels, Status: 987654})
	for _, e := range []enclave.Event{{What: enclave.NewKey}, {What: enclave.SessionOpened}, {What: enclave.SessionOpened}, {What: enclave.SessionEnded, Reason: "closed"},
		{What: enclave.SessionRefused, Reason: "busy"}, {What: enclave.EvidenceFailed}, {What: enclave.BeaconFailed}, {What: enclave.BeaconFailed}, {What: enclave.HandshakeFailed, Reason: canary}, {What: canary},
		{What: enclave.GPUsServe}, {What: enclave.GPUsLost}, {What: enclave.GPUsLost}, {What: enclave.GPUsServe},
		{What: enclave.SecretsRefused, Reason: "signature"}, {What: enclave.SecretsRefused, Reason: canary}} {
		m.Session(e)
	}
	for _, e := range []enclave.Event{{What: enclave.NewKey}, {What: enclave.SessionOpened}, {What: enclave.SessionOpened}, {What: enclave.SessionEnded, Reason: "truncated"},
		{What: enclave.SessionRefused, Reason: canary}, {What: enclave.HandshakeFailed, Reason: canary}, {What: canary}} {
		m.ConferSession(e)
	}
	for _, e := range []enclave.Event{{What: enclave.HandshakeBegun}, {What: enclave.HandshakeBegun}, {What: enclave.HandshakeBegun}, {What: enclave.HandshakeBegun}, {What: enclave.HandshakeBegun},
		{What: enclave.SessionOpened, Kind: channel.Hybrid, Took: 2 * time.Millisecond}, {What: enclave.SessionEnded, Reason: "idle", Took: 10 * time.Minute},
		{What: enclave.NewKey, Took: 250 * time.Millisecond}, {What: enclave.SessionOpened, Kind: channel.HybridReconnect, Took: time.Minute}, {What: enclave.SessionEnded, Reason: "timeout", Took: 24 * time.Hour},
		{What: enclave.ReportMade, Reason: "key"}, {What: enclave.ReportMade, Reason: "session"}, {What: enclave.ReportFailed, Reason: "session"}, {What: enclave.ReportFailed, Reason: canary},
		{What: enclave.Rekeyed, Reason: "sent"}, {What: enclave.Rekeyed, Reason: "received"}, {What: enclave.Rekeyed, Reason: "received"}, {What: enclave.Rekeyed, Reason: canary},
		{What: enclave.RecordSealed, Took: 3 * time.Microsecond}, {What: enclave.RecordOpened, Took: time.Millisecond},
		{What: enclave.GPUsVerified}, {What: enclave.GPUsVerified}, {What: enclave.GPUsRefused}, {What: enclave.KeyReady}} {
		m.Session(e)
	}
	m.WaitsForSecrets()
	m.EngineEnded(1)
	m.Boot("serving", 12500*time.Millisecond)
	m.Boot("serving", time.Hour)
	m.Boot(canary, time.Hour)
	return m
}

// TestSecretsAwaited: no longer, once they are taken.
func TestSecretsAwaited(t *testing.T) {
	m := filled()
	m.Session(enclave.Event{What: enclave.SecretsTaken, Reason: "taken"})
	if page := pageOf(t, m); !strings.Contains(page, "\ntally_secrets_awaited 0\n") || !strings.Contains(page, `tally_secrets_total{answer="taken"} 1`) {
		t.Error(page)
	}
}

// TestNoConfer: nothing is said of a listener that is not there.
func TestNoConfer(t *testing.T) {
	if page := pageOf(t, new(Metrics)); strings.Contains(page, "confer") {
		t.Error(page)
	}
}

func pageOf(t *testing.T, m *Metrics) string {
	t.Helper()
	var b bytes.Buffer
	if n, err := m.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatal(n, err)
	}
	return b.String()
}

// TestEnds: every word that package enclave has for an end is a label of its own.
func TestEnds(t *testing.T) {
	m := new(Metrics)
	words := []string{"closed", "gpu lost", "idle", "stalled", "replay", "shutdown", "timeout", "truncated", "decrypt", "refused", "protocol"}
	for _, w := range words {
		m.Session(enclave.Event{What: enclave.SessionEnded, Reason: w})
		m.Session(enclave.Event{What: enclave.HandshakeFailed, Reason: w})
		m.ConferSession(enclave.Event{What: enclave.SessionEnded, Reason: w})
	}
	page := pageOf(t, m)
	for _, w := range words {
		for _, line := range []string{"tally_sessions_total{end=", "tally_handshakes_failed_total{reason=", "tally_confer_sessions_total{end="} {
			if !strings.Contains(page, line+`"`+w+`"} 1`+"\n") {
				t.Errorf("no %s%q", line, w)
			}
		}
	}
	if strings.Contains(page, "other") {
		t.Errorf("a word counted as other:\n%s", page)
	}
}

// TestPage has Prometheus' own reader of the format say what the page means.
func TestPage(t *testing.T) {
	text := pageOf(t, filled())
	if strings.Contains(text, canary) {
		t.Errorf("a word from outside:\n%s", text)
	}
	for _, want := range []string{"tally_static_key_age_seconds [0-9]", `tally_memory_bytes{of="enclave"} [1-9]`} { // what changes
		if !regexp.MustCompile("(?m)^" + want).MatchString(text) {
			t.Errorf("no %s\n%s", want, text)
		}
	}
	python := testtool.Need(t, "python3")
	if exec.Command(python, "-c", "import prometheus_client").Run() != nil {
		python = "/usr/bin/python3"
		if exec.Command(python, "-c", "import prometheus_client").Run() != nil {
			testtool.Missing(t, "python3-prometheus-client is not installed")
		}
	}
	cmd := exec.Command(python, "-c", `
import sys
from prometheus_client.parser import text_string_to_metric_families
for f in text_string_to_metric_families(sys.stdin.read()):
    for s in f.samples:
        print(f.type, s.name, sorted(s.labels.items()), s.value)
`)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"counter tally_requests_total [('path', '/v1/chat/completions'), ('status', '2xx')] 2.0",
		"counter tally_requests_total [('path', 'other'), ('status', '4xx')] 1.0",
		"counter tally_requests_total [('path', '/v1/models'), ('status', 'none')] 1.0",
		"counter tally_requests_total [('path', '/v1/models'), ('status', 'other')] 1.0",
		"counter tally_requests_incomplete_total [('path', '/v1/chat/completions')] 1.0",
		"histogram tally_request_seconds_bucket [('le', '0.1'), ('path', '/v1/chat/completions')] 1.0",
		"histogram tally_request_seconds_bucket [('le', '+Inf'), ('path', '/v1/chat/completions')] 2.0",
		"histogram tally_request_seconds_sum [('path', '/v1/chat/completions')] 5.05",
		"histogram tally_handshake_seconds_bucket [('le', '0.001'), ('pattern', 'XXpsk3')] 0.0",
		"histogram tally_handshake_seconds_bucket [('le', '0.01'), ('pattern', 'XXpsk3')] 1.0",
		"histogram tally_handshake_seconds_bucket [('le', '10'), ('pattern', 'IKpsk2')] 0.0",
		"histogram tally_handshake_seconds_count [('pattern', 'IKpsk2')] 1.0",
		"histogram tally_handshake_seconds_count [('pattern', 'other')] 2.0",
		"gauge tally_handshake_inflight [] 0.0",
		"counter tally_quote_requests_total [('kind', 'key'), ('result', 'ok')] 1.0",
		"counter tally_quote_requests_total [('kind', 'session'), ('result', 'ok')] 1.0",
		"counter tally_quote_requests_total [('kind', 'session'), ('result', 'failed')] 1.0",
		"counter tally_quote_requests_total [('kind', 'other'), ('result', 'failed')] 1.0",
		"gauge tally_static_key_rotate_seconds [] 0.25",
		"gauge tally_static_key_sessions [] 1.0",
		"gauge tally_keys_live [] 2.0",
		"counter tally_rekeys_total [('direction', 'sent')] 1.0",
		"counter tally_rekeys_total [('direction', 'received')] 2.0",
		"counter tally_rekeys_total [('direction', 'other')] 1.0",
		"histogram tally_record_seconds_bucket [('le', '1e-06'), ('op', 'seal')] 0.0",
		"histogram tally_record_seconds_bucket [('le', '1e-05'), ('op', 'seal')] 1.0",
		"histogram tally_record_seconds_bucket [('le', '0.001'), ('op', 'open')] 1.0",
		"counter tally_gpu_verify_total [('result', 'ok')] 2.0",
		"counter tally_gpu_verify_total [('result', 'failed')] 1.0",
		"histogram tally_session_lifetime_seconds_bucket [('le', '3600')] 2.0",
		"histogram tally_session_lifetime_seconds_bucket [('le', '86400')] 3.0",
		"histogram tally_session_lifetime_seconds_sum [] 87000.0",
		"gauge tally_sessions_open [] 1.0",
		"counter tally_sessions_total [('end', 'closed')] 1.0",
		"counter tally_sessions_refused_total [] 1.0",
		"counter tally_handshakes_failed_total [('reason', 'other')] 1.0",
		"counter tally_evidence_failed_total [] 1.0",
		"counter tally_beacons_failed_total [] 2.0",
		"counter tally_keys_total [] 2.0",
		"counter tally_engine_ends_total [] 1.0",
		"gauge tally_engine_ready [] 0.0",
		"gauge tally_gpus_serving [] 1.0",
		"counter tally_gpu_losses_total [] 2.0",
		"gauge tally_secrets_awaited [] 1.0",
		"counter tally_secrets_total [('answer', 'signature')] 1.0",
		"counter tally_secrets_total [('answer', 'other')] 1.0",
		"gauge tally_confer_sessions_open [] 1.0",
		"counter tally_confer_sessions_total [('end', 'truncated')] 1.0",
		"counter tally_confer_sessions_refused_total [] 1.0",
		"counter tally_confer_handshakes_failed_total [('reason', 'other')] 1.0",
		"counter tally_confer_keys_total [] 1.0",
		"gauge tally_boot_seconds [('phase', 'serving')] 12.5",
	} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

func TestServe(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var healthy error
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, filled(), func(context.Context) error { return healthy }) }()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + ln.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, text := get("/readyz"); code != 200 || text != "ready\n" {
		t.Errorf("%d %s", code, text)
	}
	if code, text := get("/metrics"); code != 200 || !strings.Contains(text, "tally_engine_ready 1\n") {
		t.Errorf("%d %s", code, text)
	}
	healthy = errors.New(canary)
	if code, text := get("/readyz"); code != 503 || strings.Contains(text, canary) {
		t.Errorf("%d %s", code, text)
	}
	healthy = ErrWaitsForSecrets
	if code, text := get("/readyz"); code != 503 || text != "waits for secrets\n" {
		t.Errorf("%d %s", code, text)
	}
	if _, text := get("/metrics"); !strings.Contains(text, "tally_engine_ready 0\n") {
		t.Errorf("%s", text)
	}
	if code, _ := get("/healthz"); code != 200 {
		t.Error(code)
	}
	for _, path := range []string{"/", "/debug/pprof/", "/metrics/" + canary} {
		if code, text := get(path); code != 404 || strings.Contains(text, canary) {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPlainText: a console sees printable ASCII and nothing that would move its cursor.
func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{" ~": " ~", "a\x1f\x7fb": "a  b", "\u009b2Jé": " 2J "} {
		var b bytes.Buffer
		h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key != "reason" {
				return slog.Attr{}
			}
			return a
		}})
		slog.New(Handler(h)).Info("x", "reason", in)
		if got := b.String(); got != `reason="`+want+"\"\n" {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestHandler(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(Handler(slog.NewTextHandler(&b, nil)))
	log = log.With("prompt", canary, "epoch", 7).WithGroup("g")
	log.Warn("session\x1b[2J ended", "reason", "closed\nforged line", "key", canary, slog.Group("status", "x", canary), "err", errors.New(canary),
		"not in this kernel", []string{"/a"}, "status", strings.Repeat("x", 1000))
	got := b.String()
	if strings.Contains(got, canary) || strings.Count(got, "\n") != 1 || strings.Contains(got, "\x1b") {
		t.Errorf("%s", got)
	}
	for _, want := range []string{"epoch=7", `reason="closed forged line"`, `"not in this kernel"=[/a]`, "status=" + strings.Repeat("x", maxText) + "\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}
