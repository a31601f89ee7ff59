package monitor

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"tally/release"
)

// Metrics count rounds and say what the last one saw. Nothing that comes from the log is a label: the names and
// the reasons are all known beforehand.
type Metrics struct {
	mu                             sync.Mutex
	ok, alerted, failed            int64 // rounds
	alerts                         map[release.Reason]int64
	releases, statements, rebuilds int64
	size, audited, bare, again     int64
	last, lastGood, cosigned       time.Time
	lastSeconds                    float64
}

// Add counts a round that began at start; rep is nil when it failed.
func (m *Metrics) Add(rep *Report, start, end time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last, m.lastSeconds = end, end.Sub(start).Seconds()
	if rep == nil {
		m.failed++
		return
	}
	if len(rep.Alerts) == 0 {
		m.ok, m.lastGood = m.ok+1, end
	} else {
		m.alerted++
	}
	if m.alerts == nil {
		m.alerts = map[release.Reason]int64{}
	}
	for _, a := range rep.Alerts {
		m.alerts[a.Reason]++
	}
	m.releases += int64(len(rep.Releases))
	m.statements += int64(len(rep.Channels))
	m.rebuilds += int64(len(rep.Rebuilds))
	m.audited, m.bare, m.again = rep.Audited, int64(rep.Bare), m.again+rep.Again
	if rep.Size > 0 {
		m.size = rep.Size
	}
	if !rep.Cosigned.IsZero() {
		m.cosigned = rep.Cosigned
	}
}

// String is the Prometheus text format, version 0.0.4.
func (m *Metrics) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	metric := func(name, kind, help string, value any) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		if value != nil {
			fmt.Fprintf(&b, "%s %v\n", name, value)
		}
	}
	metric("tally_monitor_rounds_total", "counter", "Looks at the log, by outcome.", nil)
	for _, r := range []struct {
		name string
		n    int64
	}{{"ok", m.ok}, {"alert", m.alerted}, {"failed", m.failed}} {
		fmt.Fprintf(&b, "tally_monitor_rounds_total{outcome=%q} %d\n", r.name, r.n)
	}
	metric("tally_monitor_alerts_total", "counter", "Alerts, by reason.", nil)
	for _, reason := range Reasons() {
		fmt.Fprintf(&b, "tally_monitor_alerts_total{reason=%q} %d\n", string(reason), m.alerts[reason])
	}
	metric("tally_monitor_releases_total", "counter", "New releases found in the log.", m.releases)
	metric("tally_monitor_channel_statements_total", "counter", "New channel statements found in the log.", m.statements)
	metric("tally_monitor_rebuild_statements_total", "counter", "New rebuild statements found in the log.", m.rebuilds)
	metric("tally_monitor_log_leaves", "gauge", "Leaves of the log, by its latest checkpoint that held.", m.size)
	metric("tally_monitor_audited_leaves", "gauge", "Leaves whose bundles have been looked at.", m.audited)
	metric("tally_monitor_bare_leaves", "gauge", "Leaves without bundle.", m.bare)
	metric("tally_monitor_leaves_again_total", "counter", "Leaves that full rounds read again.", m.again)
	metric("tally_monitor_last_round_timestamp_seconds", "gauge", "When the last round ended.", unix(m.last))
	metric("tally_monitor_last_round_seconds", "gauge", "How long the last round took.", m.lastSeconds)
	metric("tally_monitor_last_ok_timestamp_seconds", "gauge", "When the last round without alert ended; 0: never.", unix(m.lastGood))
	metric("tally_monitor_cosigned_timestamp_seconds", "gauge", "When witnesses last cosigned the log; 0: no witnesses.", unix(m.cosigned))
	return b.String()
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// ServeHTTP answers GET /metrics.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write([]byte(m.String()))
}
