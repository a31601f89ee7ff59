package gpu_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tally/enclave"
	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
)

// engine is one that says what it is told to.
type engine struct {
	ready, probe error
	probed       int
}

func (e *engine) Ready(context.Context) error { return e.ready }
func (e *engine) Probe(context.Context) error { e.probed++; return e.probe }

func newService(t testing.TB) (*gpu.Service, *machine, *engine, *gpu.Options) {
	t.Helper()
	g, m := newGate(t)
	e := new(engine)
	opt := gpu.Options{Gate: g, RIMs: [][]byte{[]byte("<a/>")}, Engine: e, Owns: func(engine, pid int) bool { return pid == engine+1 }, LeastMemory: 10, LoadTime: 50 * time.Millisecond}
	opt.OCSP = func(context.Context) ([][]byte, error) { return [][]byte{{1}}, nil }
	s, err := gpu.NewService(opt)
	fatal(t, err)
	memory := uint64(10)
	m.usage = gpu.Usage{Processes: []gpu.Process{{PID: 42, Memory: &memory}}, Used: []uint64{1 << 30}}
	return s, m, e, &opt
}

// TestService follows an engine through its life on the GPUs.
func TestService(t *testing.T) {
	s, m, e, _ := newService(t)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Before(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an engine starts before the GPUs are verified: %v", err)
	}
	set, err := s.Attest(t.Context(), claims)
	fatal(t, err)
	b, err := set.Ship()
	fatal(t, err)
	ship, err := appraise.ParseShipment(b)
	fatal(t, err)
	if set.Digest != appraise.SetDigest(ship.Document) || len(ship.RIMs) != 1 || len(ship.OCSP) != 1 {
		t.Errorf("shipment %+v", ship)
	}
	fatal(t, s.Before(t.Context()))
	var stopped atomic.Int32
	s.Started(41, func() { stopped.Add(1) })
	if s.Admit() == nil {
		t.Error("requests before the engine was seen on the GPUs")
	}
	fatal(t, s.Serving(t.Context()))
	fatal(t, s.Admit())
	fatal(t, s.Serving(t.Context()))
	if e.probed != 1 {
		t.Errorf("%d probes, want one for each start: an engine that serves may have a queue", e.probed)
	}
	s.Ended()
	if s.Admit() == nil {
		t.Error("requests for an engine that has ended")
	}
	<-s.Changed()
	if err := s.Serving(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("no engine: %v", err)
	}
	m.ready = nil
	_, err = s.Attest(t.Context(), claims)
	fatal(t, err)
	s.Started(50, func() { stopped.Add(1) })
	m.fail = errors.New("GPU 0 fell off the bus")
	if _, err := s.Attest(t.Context(), claims); err == nil || stopped.Load() != 1 || s.Admit() == nil {
		t.Errorf("loss: %v, the engine was stopped %d times", err, stopped.Load())
	}
	if !slices.Equal(m.ready, []bool{true, false}) {
		t.Errorf("ready %v", m.ready)
	}
	s.Started(51, func() { stopped.Add(1) }) // it was past Before
	if stopped.Load() != 2 {
		t.Error("an engine starts on GPUs that are lost")
	}
	m.fail = nil
	_, err = s.Attest(t.Context(), claims)
	fatal(t, err)
	fatal(t, s.Before(t.Context()))
}

// TestServiceWaits: an engine that waits for a session is no failure, gets no requests, and is looked at when it starts.
func TestServiceWaits(t *testing.T) {
	_, _, e, opt := newService(t)
	waits := true
	opt.Waits = func() bool { return waits }
	s, err := gpu.NewService(*opt)
	fatal(t, err)
	_, err = s.Attest(t.Context(), claims)
	fatal(t, err)
	e.ready = errors.New("nobody listens")
	if err := s.Serving(t.Context()); !errors.Is(err, enclave.ErrEngineWaits) || s.Admit() == nil {
		t.Errorf("%v, admitted %v", err, s.Admit() == nil)
	}
	waits = false
	s.Started(41, func() {})
	<-s.Changed()
	e.ready = nil
	fatal(t, s.Serving(t.Context()))
	fatal(t, s.Admit())
	waits, e.ready = true, errors.New("it loads another model") // it runs: that it once waited is no excuse
	if err := s.Serving(t.Context()); err == nil || errors.Is(err, enclave.ErrEngineWaits) {
		t.Errorf("an engine that runs: %v", err)
	}
}

// TestServiceLosesItsEngine: an engine that served, and is not seen on the GPUs any more, is killed and gets no requests,
// the GPUs take no work, and the next one starts after they were attested again and has to compute a token.
func TestServiceLosesItsEngine(t *testing.T) {
	for name, fail := range map[string]func(m *machine, e *engine){
		"on the CPU": func(m *machine, _ *engine) { m.usage.Processes = nil },
		"hangs":      func(_ *machine, e *engine) { e.ready = errors.New("no answer") },
	} {
		s, m, e, _ := newService(t)
		attest := func() {
			t.Helper()
			_, err := s.Attest(t.Context(), claims)
			fatal(t, err)
		}
		attest()
		stopped := 0
		s.Started(41, func() { stopped++ })
		fatal(t, s.Serving(t.Context()))
		usage := m.usage
		fail(m, e)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Serving(ended); err == nil && name == "hangs" || stopped != 0 {
			t.Errorf("%s: the end of a look is taken for a loss: %v", name, err)
		}
		if err := s.Serving(t.Context()); err == nil || stopped != 1 || s.Admit() == nil || !slices.Equal(m.ready, []bool{true, false}) {
			t.Errorf("%s: %v; stopped %d times, admitted %v, ready %v", name, err, stopped, s.Admit() == nil, m.ready)
		}
		m.usage, e.ready = usage, nil
		if err := s.Serving(t.Context()); err == nil || s.Admit() == nil {
			t.Errorf("%s: one that is being killed is admitted: %v", name, err)
		}
		s.Ended()
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := s.Before(short); err == nil {
			t.Errorf("%s: the next one starts before the GPUs are attested", name)
		}
		attest()
		fatal(t, s.Before(t.Context()))
		s.Started(41, func() {})
		fatal(t, s.Serving(t.Context()))
		fatal(t, s.Admit())
		if e.probed != 2 {
			t.Errorf("%s: %d probes, want one for each start", name, e.probed)
		}
	}
}

func TestServiceRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *machine, e *engine)
		want   string
	}{
		"never ready":     {func(_ *machine, e *engine) { e.ready = errors.New("loading") }, "not ready after 50ms"},
		"computes not":    {func(_ *machine, e *engine) { e.probe = errors.New("status 500") }, "computes nothing: status 500"},
		"nobody":          {func(m *machine, _ *engine) { m.usage.Processes = nil }, "none of the 0 processes"},
		"another process": {func(m *machine, _ *engine) { m.usage.Processes[0].PID = 43 }, "none of the 1 processes"},
		"little memory":   {func(m *machine, _ *engine) { *m.usage.Processes[0].Memory = 9 }, "holds 0 MiB"},
		"little in use": {func(m *machine, _ *engine) {
			m.usage.Processes[0].Memory, m.usage.Used = nil, []uint64{4, 5}
		}, "holds 0 MiB"},
	} {
		s, m, e, _ := newService(t)
		_, err := s.Attest(t.Context(), claims)
		fatal(t, err)
		s.Started(41, func() {})
		c.change(m, e)
		if err := s.Serving(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if s.Admit() == nil {
			t.Errorf("%s: admitted", name)
		}
	}
	// What the driver does not say of the process counts by the GPU.
	s, m, _, _ := newService(t)
	_, err := s.Attest(t.Context(), claims)
	fatal(t, err)
	s.Started(41, func() {})
	m.usage.Processes[0].Memory = nil
	fatal(t, s.Serving(t.Context()))

	_, _, _, opt := newService(t)
	for name, change := range map[string]func(*gpu.Options){
		"gate": func(o *gpu.Options) { o.Gate = nil }, "engine": func(o *gpu.Options) { o.Engine = nil }, "owner": func(o *gpu.Options) { o.Owns = nil },
		"time": func(o *gpu.Options) { o.LoadTime = 0 }, "memory": func(o *gpu.Options) { o.LeastMemory = 0 },
	} {
		o := *opt
		change(&o)
		if _, err := gpu.NewService(o); err == nil {
			t.Errorf("no %s: no error", name)
		}
	}
}
