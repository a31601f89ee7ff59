// Package operate is what an operator may know of an enclave: counters by allow-list, health, and log lines
// of known keys. Nothing here has seen content; that it stays so does not depend on its callers' care, for
// every label and key is one of a fixed set and all else is dropped.
//
// The metrics, in the Prometheus text format (version 0.0.4):
//
//	tally_requests_total{path,status}   requests answered; status is 2xx to 5xx, or none
//	tally_requests_incomplete_total{path}
//	tally_request_seconds{path}         histogram, to the end of the answer
//	tally_handshake_seconds{pattern}    histogram, of handshakes that made a session: XX, IK, XXpsk3, IKpsk2, XXfallback
//	tally_handshake_inflight            handshakes now
//	tally_quote_requests_total{kind,result}  reports asked of the platform, about a key or a session: ok, failed
//	tally_static_key_rotate_seconds     what it took to make the key that serves, and to have it attested
//	tally_static_key_age_seconds        since it began to serve
//	tally_static_key_sessions           sessions opened since then
//	tally_keys_live                     private static keys in memory: one serves, near its end there is the next
//	tally_record_seconds{op}            histogram, of encrypting (seal) and decrypting (open) a record, one in 64
//	tally_rekeys_total{direction}       changes of a session's keys: sent, received
//	tally_gpu_verify_total{result}      verifications of the GPUs: ok, failed
//	tally_session_lifetime_seconds      histogram, of sessions that ended, to a day
//	tally_memory_bytes{of}              of the enclave's own process, and of the engine's cgroup where that is limited
//	tally_sessions_open                 sessions now
//	tally_sessions_total{end}           sessions ended: closed, timeout, truncated, …
//	tally_sessions_refused_total        turned away, busy
//	tally_handshakes_failed_total{reason}
//	tally_evidence_failed_total         sessions that asked for evidence and got none, since the platform made none
//	tally_beacons_failed_total          keys made without a beacon, since the host gave none
//	tally_keys_total                    static keys made and attested
//	tally_engine_ends_total             times that the engine ended and was started again
//	tally_engine_ready                  1 when the engine says it is healthy
//	tally_gpus_serving                  1 while GPUs are verified and the engine computes on them; 0 without GPUs
//	tally_gpu_losses_total              times that a GPU was lost, which ends all sessions
//	tally_secrets_awaited               1 while the engine waits for the operator's secrets
//	tally_secrets_total{answer}         messages with secrets, by the word that each was answered with: taken, signature, …
//	tally_confer_sessions_open          sessions of Confer's wire now, where the configuration asks for it
//	tally_confer_sessions_total{end}    such sessions ended; no end of that protocol is authenticated
//	tally_confer_sessions_refused_total turned away, busy
//	tally_confer_handshakes_failed_total{reason}
//	tally_confer_keys_total             static keys made for it and attested
//	tally_boot_seconds{phase}           seconds since the kernel started: root (kernel and initrd are done), system, serving, ready
//
// Nothing is by session, client or time of day.
package operate

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tally/enclave"
	"tally/enclave/infer"
	"tally/enclave/secrets"
)

// The values that labels may have; any other counts as "other".
var (
	paths    = []string{infer.PathChat, infer.PathCompletions, infer.PathEmbeddings, infer.PathModels}
	statuses = []string{"none", "2xx", "3xx", "4xx", "5xx"}
	reasons  = []string{"closed", "shutdown", "idle", "stalled", "timeout", "truncated", "replay", "decrypt", "refused", "protocol", "gpu lost"}
	phases   = []string{"root", "system", "serving", "ready"}
)

// The upper bounds of histograms.
var (
	requestBuckets   = []float64{0.01, 0.1, 1, 10, 100}
	handshakeBuckets = []float64{0.001, 0.01, 0.1, 1, 10}
	recordBuckets    = []float64{1e-6, 1e-5, 1e-4, 1e-3, 1e-2}
	sessionBuckets   = []float64{1, 10, 60, 600, 3600, 86400}
)

// A Metrics counts. Its methods may be called from several goroutines. The zero value is ready.
type Metrics struct {
	mu                              sync.Mutex
	requests                        map[[2]string]int64 // path, status
	broken                          map[string]int64    // path
	seconds                         map[string]*histogram
	ended                           map[string]int64 // reason
	failed                          map[string]int64 // reason
	boot                            map[string]float64
	sessions                        sessionCounts
	open, refused, keys, engineEnds int64
	unattested, undated             int64
	gpuLosses                       int64
	ready, gpus, awaited            bool
	secrets                         map[string]int64 // word
	confer                          conferCounts
}

type histogram struct {
	count  int64
	sum    float64
	within []int64 // by bucket
}

// add counts s in the histogram of k, with these buckets.
func add(m *map[string]*histogram, k string, buckets []float64, s float64) {
	if *m == nil {
		*m = map[string]*histogram{}
	}
	h := (*m)[k]
	if h == nil {
		h = &histogram{within: make([]int64, len(buckets))}
		(*m)[k] = h
	}
	h.count, h.sum = h.count+1, h.sum+s
	for i, b := range buckets {
		if s <= b {
			h.within[i]++
		}
	}
}

func known(v string, all []string) string {
	if slices.Contains(all, v) {
		return v
	}
	return "other"
}

// inc counts one up in a map that may not be there yet.
func inc[K comparable](m *map[K]int64, k K) {
	if *m == nil {
		*m = map[K]int64{}
	}
	(*m)[k]++
}

// Request is infer.Options' Observe.
func (m *Metrics) Request(e infer.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := known(e.Path, paths)
	status := "none"
	if e.Status != 0 {
		status = known(strconv.Itoa(e.Status/100)+"xx", statuses)
	}
	inc(&m.requests, [2]string{path, status})
	if !e.Complete {
		inc(&m.broken, path)
	}
	add(&m.seconds, path, requestBuckets, e.Duration.Seconds())
}

// Session is enclave.Options' Observe.
func (m *Metrics) Session(e enclave.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions.count(e)
	switch e.What {
	case enclave.NewKey:
		m.keys++
	case enclave.HandshakeFailed:
		inc(&m.failed, known(e.Reason, reasons))
	case enclave.SessionOpened:
		m.open++
	case enclave.SessionEnded:
		m.open--
		inc(&m.ended, known(e.Reason, reasons))
	case enclave.SessionRefused:
		m.refused++
	case enclave.BeaconFailed:
		m.undated++
	case enclave.EvidenceFailed:
		m.unattested++
	case enclave.GPUsLost:
		m.gpuLosses, m.gpus = m.gpuLosses+1, false
	case enclave.GPUsServe:
		m.gpus = true
	case enclave.SecretsTaken, enclave.SecretsRefused:
		inc(&m.secrets, known(e.Reason, secrets.Words()))
		m.awaited = m.awaited && e.What != enclave.SecretsTaken
	}
}

// EngineEnded counts an engine's end.
func (m *Metrics) EngineEnded(int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engineEnds++
}

// Ready says whether the engine is healthy, as of now.
func (m *Metrics) Ready(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = yes
}

// WaitsForSecrets says that the engine does, until they are taken.
func (m *Metrics) WaitsForSecrets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.awaited = true
}

// Boot says how long after the kernel's start a phase was reached, once.
func (m *Metrics) Boot(phase string, after time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boot == nil {
		m.boot = map[string]float64{}
	}
	if _, there := m.boot[phase]; !there && slices.Contains(phases, phase) {
		m.boot[phase] = after.Seconds()
	}
}

// WriteTo writes all metrics, in a fixed order.
func (m *Metrics) WriteTo(w io.Writer) (int64, error) {
	m.mu.Lock()
	p := new(page)
	m.writeRequests(p)
	m.sessions.write(p)
	p.head("tally_sessions_open", "gauge", "sessions now")
	p.line("tally_sessions_open", "", float64(m.open))
	p.counters("tally_sessions_total", "end", "sessions ended", m.ended)
	p.head("tally_sessions_refused_total", "counter", "sessions turned away")
	p.line("tally_sessions_refused_total", "", float64(m.refused))
	p.counters("tally_handshakes_failed_total", "reason", "handshakes that made no session", m.failed)
	p.head("tally_evidence_failed_total", "counter", "sessions that asked for evidence in vain")
	p.line("tally_evidence_failed_total", "", float64(m.unattested))
	p.head("tally_beacons_failed_total", "counter", "keys made without a beacon")
	p.line("tally_beacons_failed_total", "", float64(m.undated))
	p.head("tally_keys_total", "counter", "static keys made and attested")
	p.line("tally_keys_total", "", float64(m.keys))
	p.head("tally_engine_ends_total", "counter", "ends of the engine")
	p.line("tally_engine_ends_total", "", float64(m.engineEnds))
	p.head("tally_engine_ready", "gauge", "1 when the engine is healthy")
	p.line("tally_engine_ready", "", map[bool]float64{true: 1}[m.ready])
	p.head("tally_gpus_serving", "gauge", "1 while GPUs are verified and the engine computes on them")
	p.line("tally_gpus_serving", "", map[bool]float64{true: 1}[m.gpus])
	p.head("tally_gpu_losses_total", "counter", "losses of a GPU")
	p.line("tally_gpu_losses_total", "", float64(m.gpuLosses))
	p.head("tally_secrets_awaited", "gauge", "1 while the engine waits for the operator's secrets")
	p.line("tally_secrets_awaited", "", map[bool]float64{true: 1}[m.awaited])
	p.counters("tally_secrets_total", "answer", "messages with secrets", m.secrets)
	m.confer.write(p)
	p.head("tally_boot_seconds", "gauge", "seconds from the kernel's start to a phase")
	for _, k := range sorted(m.boot) {
		p.line("tally_boot_seconds", label("phase", k), m.boot[k])
	}
	m.mu.Unlock()
	n, err := io.WriteString(w, p.String())
	return int64(n), err
}

func (m *Metrics) writeRequests(p *page) {
	p.head("tally_requests_total", "counter", "requests answered")
	for _, path := range append(slices.Clone(paths), "other") {
		for _, s := range append(slices.Clone(statuses), "other") {
			if n, ok := m.requests[[2]string{path, s}]; ok {
				p.line("tally_requests_total", label("path", path)+","+label("status", s), float64(n))
			}
		}
	}
	p.counters("tally_requests_incomplete_total", "path", "requests whose answer was not sent to its end", m.broken)
	p.histograms("tally_request_seconds", "path", "time to the end of the answer", m.seconds, requestBuckets)
}

// A page is text in the exposition format.
type page struct{ strings.Builder }

func (p *page) head(name, kind, help string) {
	fmt.Fprintf(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (p *page) line(name, labels string, v float64) {
	if labels != "" {
		labels = "{" + labels + "}"
	}
	fmt.Fprintf(p, "%s%s %s\n", name, labels, number(v))
}

func (p *page) counters(name, key, help string, m map[string]int64) {
	p.head(name, "counter", help)
	for _, k := range sorted(m) {
		p.line(name, label(key, k), float64(m[k]))
	}
}

// histograms writes those of m by the label key; "" is for one without.
func (p *page) histograms(name, key, help string, m map[string]*histogram, buckets []float64) {
	p.head(name, "histogram", help)
	for _, k := range sorted(m) {
		h, l, comma := m[k], "", ""
		if key != "" {
			l, comma = label(key, k), ","
		}
		for i, b := range buckets {
			p.line(name+"_bucket", l+comma+label("le", number(b)), float64(h.within[i]))
		}
		p.line(name+"_bucket", l+comma+label("le", "+Inf"), float64(h.count))
		p.line(name+"_sum", l, h.sum)
		p.line(name+"_count", l, float64(h.count))
	}
}

func label(k, v string) string { return k + `="` + v + `"` }

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func sorted[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}
