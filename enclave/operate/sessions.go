package operate

import (
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"tally/enclave"
	"tally/enclave/channel"
)

// patterns are the words for kinds of handshakes.
var patterns = map[channel.Kind]string{channel.Classical: "XX", channel.ClassicalReconnect: "IK", channel.Hybrid: "XXpsk3", channel.HybridReconnect: "IKpsk2", channel.ClassicalFallback: "XXfallback"}

// sessionCounts are what handshakes, sessions, keys and reports take.
type sessionCounts struct {
	handshakes map[string]*histogram // pattern
	lifetimes  map[string]*histogram // ""
	reports    map[[2]string]int64   // kind, result
	rekeys     map[string]int64      // direction
	records    map[string]*histogram // seal, open
	gpus       map[string]int64      // ok, failed
	inflight   int64
	live, next bool // private keys that there are: the one that serves, and the one after it

	keyTook time.Duration
	keyAt   time.Time // zero: there is no key yet
	keyUsed int64     // sessions
}

func (c *sessionCounts) count(e enclave.Event) {
	switch e.What {
	case enclave.HandshakeBegun:
		c.inflight++
	case enclave.HandshakeFailed:
		c.inflight--
	case enclave.SessionOpened:
		c.inflight--
		c.keyUsed++
		pattern, ok := patterns[e.Kind]
		if !ok {
			pattern = "other"
		}
		add(&c.handshakes, pattern, handshakeBuckets, e.Took.Seconds())
	case enclave.SessionEnded:
		add(&c.lifetimes, "", sessionBuckets, e.Took.Seconds())
	case enclave.Rekeyed:
		inc(&c.rekeys, known(e.Reason, []string{"sent", "received"}))
	case enclave.RecordSealed:
		add(&c.records, "seal", recordBuckets, e.Took.Seconds())
	case enclave.RecordOpened:
		add(&c.records, "open", recordBuckets, e.Took.Seconds())
	case enclave.GPUsVerified:
		inc(&c.gpus, "ok")
	case enclave.GPUsRefused:
		inc(&c.gpus, "failed")
	case enclave.KeyReady:
		c.next = true
	case enclave.KeyForgotten:
		c.live = false
	case enclave.NewKey:
		c.live, c.next = true, false
		c.keyTook, c.keyAt, c.keyUsed = e.Took, time.Now(), 0
	case enclave.ReportMade, enclave.ReportFailed:
		result := map[bool]string{true: "ok", false: "failed"}[e.What == enclave.ReportMade]
		inc(&c.reports, [2]string{known(e.Reason, []string{"key", "session"}), result})
	}
}

func (c *sessionCounts) write(p *page) {
	p.histograms("tally_handshake_seconds", "pattern", "time of a handshake that made a session", c.handshakes, handshakeBuckets)
	p.head("tally_handshake_inflight", "gauge", "handshakes now")
	p.line("tally_handshake_inflight", "", float64(c.inflight))
	p.head("tally_quote_requests_total", "counter", "reports asked of the platform")
	for _, kind := range []string{"key", "session", "other"} {
		for _, result := range []string{"ok", "failed"} {
			if n, ok := c.reports[[2]string{kind, result}]; ok {
				p.line("tally_quote_requests_total", label("kind", kind)+","+label("result", result), float64(n))
			}
		}
	}
	if !c.keyAt.IsZero() {
		p.head("tally_static_key_rotate_seconds", "gauge", "time to make and attest the key that serves")
		p.line("tally_static_key_rotate_seconds", "", c.keyTook.Seconds())
		p.head("tally_static_key_age_seconds", "gauge", "time since it began to serve")
		p.line("tally_static_key_age_seconds", "", time.Since(c.keyAt).Seconds())
		p.head("tally_static_key_sessions", "gauge", "sessions opened since it began to serve")
		p.line("tally_static_key_sessions", "", float64(c.keyUsed))
	}
	p.head("tally_keys_live", "gauge", "private static keys in memory: one serves, and near its end the next is there")
	p.line("tally_keys_live", "", map[bool]float64{true: 1}[c.live]+map[bool]float64{true: 1}[c.next])
	p.histograms("tally_record_seconds", "op", "time to encrypt or decrypt a record, one in 64 of a session's", c.records, recordBuckets)
	p.counters("tally_rekeys_total", "direction", "changes of a session's keys", c.rekeys)
	p.counters("tally_gpu_verify_total", "result", "verifications of the GPUs, for a key or again", c.gpus)
	p.histograms("tally_session_lifetime_seconds", "", "time from a session's first byte to its end", c.lifetimes, sessionBuckets)
	p.head("tally_memory_bytes", "gauge", "memory in use")
	own := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(own)
	p.line("tally_memory_bytes", label("of", "enclave"), float64(own[0].Value.Uint64()))
	if n, err := engineMemory(); err == nil {
		p.line("tally_memory_bytes", label("of", "engine"), float64(n))
	}
}

// engineMemory is what the engine's cgroup has, where that counts it (package guest).
func engineMemory() (int64, error) {
	b, err := os.ReadFile("/sys/fs/cgroup/engine/memory.current")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}
