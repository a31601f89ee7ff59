package enclave_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/attesttest"
	"tally/enclave/channel"
	"tally/enclave/client"
	"tally/measure"
)

// quoteTime is what one report of the hardware in BenchmarkSession takes, and window what sessions wait for each
// other: Serve's default. It begins with a handshake, so that a session alone waits for the rest of it.
const (
	quoteTime = 30 * time.Millisecond
	window    = enclave.SessionWindow
	pause     = 20 * time.Millisecond
)

// A slow attester is hardware that signs one report after another, each in a given time.
type slow struct {
	enclave.Attester
	mu      sync.Mutex
	takes   time.Duration
	reports atomic.Int64
	took    []time.Duration // each of them, by the clock: a timer of 30 ms is a little late
}

func (s *slow) Attest(ctx context.Context, rd [64]byte) ([]byte, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now()
	t := time.NewTimer(s.takes)
	defer t.Stop()
	r, e, err := s.Attester.Attest(ctx, rd)
	<-t.C
	s.took = append(s.took, time.Since(at))
	s.reports.Add(1)
	return r, e, err
}

// BenchmarkSession opens sessions over TCP on loopback, hybrid handshakes, SNP evidence of fake hardware: from the connection to
// the moment when a prompt may be sent. Client and enclave share the machine, and each round has sessions of every sort, so
// that what else runs here meets all of them alike. p50-ms is the median; of freshness session over-ms is the median less the
// window, by its nominal length, and the median report. A client that reconnects remembers what it has verified. cpu-ms is the
// processor time of this process for each session (getrusage): client, enclave and fake hardware together.
//
// Sessions with freshness key come a hundred in a row, those called idle after a pause each. A virtual machine may let a second
// processor sleep on for milliseconds when it is wanted, and a session alone has but one until then: wake-ms is that time.
func BenchmarkSession(b *testing.B) {
	m, err := attesttest.NewAMD(time.Unix(1767225600, 0))
	if err != nil {
		b.Fatal(err)
	}
	if err := m.Revoke(time.Unix(1767225600, 0), false); err != nil {
		b.Fatal(err)
	}
	m.Fields.Measurement = [48]byte{0xaa}
	sorts := []*sessionSort{
		newSessionSort(b, m, sessionSort{name: "key-full-", fresh: appraise.FreshKey, row: 100}),
		newSessionSort(b, m, sessionSort{name: "key-reconnect-", fresh: appraise.FreshKey, again: true, row: 100}),
		newSessionSort(b, m, sessionSort{name: "key-full-idle-", fresh: appraise.FreshKey, row: 4, pause: pause}),
		newSessionSort(b, m, sessionSort{name: "key-reconnect-idle-", fresh: appraise.FreshKey, again: true, row: 4, pause: pause}),
		newSessionSort(b, m, sessionSort{name: "session-full-", fresh: appraise.FreshSession, row: 4}),
		newSessionSort(b, m, sessionSort{name: "session-reconnect-", fresh: appraise.FreshSession, again: true, row: 4}),
	}
	var wakes []time.Duration
	for b.Loop() {
		for _, s := range sorts {
			for range s.row {
				time.Sleep(s.pause)
				s.round(b)
			}
		}
		for range 4 {
			time.Sleep(pause)
			wakes = append(wakes, wake())
		}
	}
	for _, s := range sorts {
		s.report(b)
	}
	b.ReportMetric(float64(middle(wakes))/1e6, "wake-ms")
}

// wake is how long a second goroutine waits for a processor while this one keeps the first busy.
func wake() time.Duration {
	at := time.Now()
	var ran atomic.Int64
	go func() { ran.Store(int64(time.Since(at))) }()
	for ran.Load() == 0 && time.Since(at) < 100*time.Millisecond {
	}
	return time.Since(at)
}

// A sessionSort is one line of BenchmarkSession: an enclave, and a client that has met it before or has not.
type sessionSort struct {
	name  string
	fresh appraise.Freshness
	again bool
	row   int           // sessions in a row
	pause time.Duration // before each

	addr string
	cfg  client.Config
	took []time.Duration
	cpu  time.Duration
	slow *slow
}

func newSessionSort(b *testing.B, m *attesttest.AMD, s sessionSort) *sessionSort {
	opt := options(b)
	opt.Beacon = func(context.Context) ([]byte, error) { return []byte("2026-01-01T00:00:00Z"), nil }
	opt.KeySessions = 1 << 20
	s.slow = &slow{Attester: m}
	s.cfg = snpConfig(m, s.fresh)
	s.addr, _ = start(b, s.slow, enclave.Echo{}, opt)
	s.slow.mu.Lock()
	s.slow.takes = quoteTime // not of the key's report
	s.slow.mu.Unlock()
	if s.again {
		s.cfg.Pins, s.cfg.Memo = new(client.Pins), new(appraise.Memo)
		dial(b, s.addr, s.cfg).Close(b.Context())
	}
	return &s
}

func (s *sessionSort) round(b *testing.B) {
	at, before := time.Now(), cpuTime(b)
	c, err := client.Dial(b.Context(), new(net.Dialer), s.addr, s.cfg)
	s.took = append(s.took, time.Since(at))
	s.cpu += cpuTime(b) - before
	if err != nil {
		b.Fatal(err)
	}
	if s.again != (c.Peer().Kind == channel.HybridReconnect) {
		b.Fatalf("handshake %v", c.Peer().Kind)
	}
	c.Close(b.Context())
}

func (s *sessionSort) report(b *testing.B) {
	p50 := middle(s.took)
	b.ReportMetric(float64(p50)/1e6, s.name+"p50-ms")
	b.ReportMetric(float64(s.cpu)/float64(len(s.took))/1e6, s.name+"cpu-ms")
	if s.fresh == appraise.FreshSession {
		b.ReportMetric(float64(p50-window-middle(s.slow.took))/1e6, s.name+"over-ms")
	}
}

func middle(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// cpuTime is what this process has had of the processors, in user and kernel mode.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func snpConfig(m *attesttest.AMD, fresh appraise.Freshness) client.Config {
	cfg := config()
	cfg.Policy = appraise.Policy{Platforms: []string{"snp"}, Freshness: fresh, Beacons: &appraise.Beacons{Dates: noted{}, MaxAge: 36 * time.Hour}, SNP: &appraise.SNP{
		TCB: map[string]appraise.SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 219}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, AllowSMT: true,
		Chips: []string{appraise.Any}, Roots: m.Roots()}}
	cfg.Reference = &measure.ReferenceValues{Schema: measure.Schema, Name: "minimal", Version: "1", Values: []measure.Value{{
		Platform: measure.Platform{Name: "q", TEE: "snp"}, Register: "launch_digest", Digest: slices.Clone(m.Fields.Measurement[:]),
		Covers: []measure.Part{"firmware", "kernel", "initrd", "cmdline", "root"}}}}
	return cfg
}

// BenchmarkSessionEvidence has 400 open sessions ask for evidence about themselves, all together, of hardware that
// takes 100 ms over a report. sessions/s is how many got theirs and hold it to their handshakes, reports/s what
// the hardware made. The signature is left out on the client's side: BenchmarkSession has it.
func BenchmarkSessionEvidence(b *testing.B) {
	const n = 400
	a := &slow{Attester: insecure.Attester{}}
	addr, _ := start(b, a, enclave.Echo{}, options(b))
	a.mu.Lock()
	a.takes = 100 * time.Millisecond
	a.mu.Unlock()
	cfg := config()
	cfg.Policy.Freshness = appraise.FreshSession
	sessions := make([]*client.Session, n)
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := client.Dial(b.Context(), new(net.Dialer), addr, cfg)
			if err != nil {
				b.Error(err)
				return
			}
			sessions[i] = s
		}()
	}
	if wg.Wait(); b.Failed() {
		return
	}
	begin, before, at := 0, a.reports.Load(), time.Now()
	for b.Loop() {
		for _, s := range sessions {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := s.Reappraise(b.Context()); err != nil {
					b.Error(err)
				}
			}()
		}
		wg.Wait()
		begin += n
	}
	took := time.Since(at).Seconds()
	b.ReportMetric(float64(begin)/took, "sessions/s")
	b.ReportMetric(float64(a.reports.Load()-before)/took, "reports/s")
	for _, s := range sessions {
		s.Close(b.Context())
	}
}
