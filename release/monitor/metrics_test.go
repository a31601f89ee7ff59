package monitor_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"tally/release"
	"tally/release/monitor"
)

func TestMetrics(t *testing.T) {
	m := new(monitor.Metrics)
	start := time.Unix(1_800_000_000, 0)
	m.Add(&monitor.Report{Size: 7, Audited: 7, Releases: make([]monitor.Release, 2), Channels: make([]monitor.Channel, 1)}, start, start.Add(time.Second/2))
	m.Add(&monitor.Report{Audited: 7, Bare: 3, Alerts: []monitor.Alert{{Reason: release.LogFork}, {Reason: release.LogFork}}}, start, start.Add(time.Second))
	m.Add(nil, start, start.Add(2*time.Second))
	srv := httptest.NewServer(m)
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("%s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	text := m.String()
	for _, want := range []string{
		`rounds_total{outcome="ok"} 1`, `rounds_total{outcome="alert"} 1`, `rounds_total{outcome="failed"} 1`,
		`alerts_total{reason="log-fork"} 2`, `alerts_total{reason="no-bundle"} 0`, "releases_total 2", "channel_statements_total 1", "rebuild_statements_total 0",
		"log_leaves 7", "audited_leaves 7", "bare_leaves 3", "last_round_timestamp_seconds 1800000002", "last_round_seconds 2",
		"last_ok_timestamp_seconds 1800000000", "cosigned_timestamp_seconds 0",
	} {
		if !strings.Contains(text, "\ntally_monitor_"+want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	line := regexp.MustCompile(`^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+="[a-z-]+"\})? [0-9.]+)$`)
	for l := range strings.Lines(text) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("not in the text format: %q", l)
		}
	}
	for _, c := range []struct{ method, path string }{{"GET", "/"}, {"POST", "/metrics"}} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, srv.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s %s: %s", c.method, c.path, resp.Status)
		}
	}
	// Prometheus' own checker, where it is installed.
	if promtool, err := exec.LookPath("promtool"); err == nil {
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
}
