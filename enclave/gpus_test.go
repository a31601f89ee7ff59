package enclave_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/channel"
	"tally/enclave/evidence"
)

// fakeGPUs are GPUs that fail when they are told to.
type fakeGPUs struct {
	changed chan struct{}

	mu      sync.Mutex
	lost    error // Attest's answer
	cpu     error // Serving's
	wait    chan struct{}
	claims  []evidence.Claims // of each Attest
	waiting int
}

func newFakeGPUs() *fakeGPUs { return &fakeGPUs{changed: make(chan struct{})} }

func (g *fakeGPUs) Attest(ctx context.Context, c evidence.Claims) (*enclave.GPUSet, error) {
	g.mu.Lock()
	wait := g.wait
	g.claims = append(g.claims, c)
	g.waiting++
	g.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	return &enclave.GPUSet{Digest: [32]byte{9}, Ship: func() ([]byte, error) { return []byte("set"), nil }}, g.lost
}

func (g *fakeGPUs) Serving(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cpu
}

func (g *fakeGPUs) Changed() <-chan struct{} { return g.changed }

func (g *fakeGPUs) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// raw opens a session without a client's opinion of the evidence, which it returns.
func raw(t *testing.T, addr string) (*channel.Mux, *evidence.Document, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var doc *evidence.Document
	c, err := channel.Client(t.Context(), conn, channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}, func(_ context.Context, p channel.Peer) (err error) {
		doc, err = evidence.Parse(p.Payload[1:])
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	m := channel.NewMux(c, channel.MuxOptions{})
	t.Cleanup(func() { m.Abort() })
	return m, doc, nil
}

func mustRaw(t *testing.T, addr string) (*channel.Mux, *evidence.Document) {
	t.Helper()
	m, doc, err := raw(t, addr)
	if err != nil {
		t.Fatal(err)
	}
	return m, doc
}

// say sends one message and returns the answer's error.
func say(t *testing.T, m *channel.Mux, message string) error {
	t.Helper()
	st, err := m.Open(t.Context())
	if err != nil {
		return err
	}
	defer st.Close()
	if _, err := st.Write([]byte(message)); err != nil {
		return err
	}
	if err := st.End(channel.StatusOK); err != nil {
		return err
	}
	_, err = io.ReadAll(st)
	return err
}

// closes waits until the enclave has ended a session, in good order.
func closes(t *testing.T, what string, m *channel.Mux) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		st, err := m.Open(ctx)
		if err == nil {
			st.Close() // nothing was sent
			time.Sleep(time.Millisecond)
			continue
		}
		if !errors.Is(err, channel.ErrPeerClosed) {
			t.Errorf("%s: %v, want it closed in good order", what, err)
		}
		return
	}
}

// TestGPUsRefuseToStart: without GPUs, or with an engine that does not use them, nobody is served.
func TestGPUsRefuseToStart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fakeGPUs)
		want   string
	}{
		"lost":          {func(g *fakeGPUs) { g.lost = errors.New("the driver sees 0 GPUs") }, "enclave: attesting the GPUs: the driver sees 0 GPUs"},
		"engine on CPU": {func(g *fakeGPUs) { g.cpu = errors.New("no process of the engine") }, "the engine does not compute on the GPUs: no process"},
	} {
		g := newFakeGPUs()
		c.change(g)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		opt := options(t)
		opt.GPUs = g
		if err := enclave.Serve(t.Context(), ln, insecure.Attester{}, enclave.Echo{}, opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestGPUsWithoutTheirEngine: an engine that waits for what a session brings keeps nobody out, and is looked at once it runs.
func TestGPUsWithoutTheirEngine(t *testing.T) {
	g := newFakeGPUs()
	g.cpu = fmt.Errorf("no key yet: %w", enclave.ErrEngineWaits)
	opt := options(t)
	opt.GPUs = g
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	m, _ := mustRaw(t, addr)
	if err := say(t, m, "hello"); err != nil {
		t.Fatal(err)
	}
	g.changed <- struct{}{}
	g.set(func() { g.cpu = errors.New("it runs on the CPU") })
	g.changed <- struct{}{}
	closes(t, "a session when the engine runs on the CPU", m)
}

// holding is an engine that repeats what is said, and does not come to the end of "hold".
type holding struct{ began chan struct{} }

func (h holding) Exchange(ctx context.Context, request io.Reader, w io.Writer) error {
	b, _ := io.ReadAll(request)
	if _, err := w.Write(b); err != nil {
		return err
	}
	if string(b) != "hold" {
		return nil
	}
	h.began <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// TestGPULoss: a loss ends each session and tells its client why, and nobody is served until the GPUs are attested
// again, for a new key.
func TestGPULoss(t *testing.T) {
	g := newFakeGPUs()
	var events sync.Map
	opt := options(t)
	opt.GPUs, opt.Observe = g, func(e enclave.Event) { events.Store(e.What, e.Reason) }
	engine := holding{make(chan struct{}, 1)}
	addr, stop := start(t, insecure.Attester{}, engine, opt)
	busy, doc := mustRaw(t, addr)
	idle, _ := mustRaw(t, addr)
	if err := say(t, idle, "hello"); err != nil {
		t.Fatal(err)
	}
	if len(doc.Claims.GPU) != 32 || doc.Claims.GPU[0] != 9 || doc.Claims.Epoch != 1 {
		t.Errorf("claims %+v", doc.Claims)
	}
	if a := g.claims[0]; a.GPU != nil || a.Static != doc.Claims.Static || a.Epoch != 1 || a.NotAfter != doc.Claims.NotAfter {
		t.Errorf("the GPUs were attested for %+v", a)
	}
	ended := make(chan error, 1)
	go func() { ended <- say(t, busy, "hold") }()
	<-engine.began
	g.changed <- struct{}{} // all is well: nothing happens
	g.set(func() { g.lost = errors.New("GPU 1 fell off the bus") })
	g.changed <- struct{}{}
	var reset *channel.ResetError
	if err := <-ended; !errors.As(err, &reset) || reset.Status != channel.StatusGPULost || !strings.Contains(err.Error(), "lost a GPU") {
		t.Errorf("in the middle of an answer: %v", err)
	}
	closes(t, "an idle session", idle)
	closes(t, "the session after the answer", busy)
	var refused *channel.RefusedError
	if _, _, err := raw(t, addr); !errors.As(err, &refused) || refused.Code != channel.RefusedGPU || !strings.Contains(err.Error(), "lost a GPU") {
		t.Errorf("a new session: %v", err)
	}
	g.set(func() { g.lost, g.cpu = nil, errors.New("the engine is on the CPU") })
	g.changed <- struct{}{}
	g.changed <- struct{}{} // taken when the look before has ended
	if _, _, err := raw(t, addr); !errors.As(err, &refused) {
		t.Errorf("an engine on the CPU: %v", err)
	}
	g.set(func() { g.cpu = nil })
	g.changed <- struct{}{}
	g.changed <- struct{}{}
	_, doc = mustRaw(t, addr)
	if doc.Claims.Epoch < 4 {
		t.Errorf("served again under key %d, which was made before the GPUs were verified", doc.Claims.Epoch)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, w := range []enclave.What{enclave.GPUsLost, enclave.GPUsServe, enclave.GPUsVerified, enclave.GPUsRefused} {
		if _, ok := events.Load(w); !ok {
			t.Errorf("no event %q", w)
		}
	}
	if r, _ := events.Load(enclave.SessionEnded); r == nil {
		t.Error("no session ended")
	}
}

// TestGPULossAtRotation: the next key cannot be had without the GPUs, and the sessions of the old one end.
func TestGPULossAtRotation(t *testing.T) {
	g := newFakeGPUs()
	opt := options(t)
	opt.GPUs, opt.KeySessions = g, 4
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	first, _ := mustRaw(t, addr)
	if err := say(t, first, "hello"); err != nil {
		t.Fatal(err)
	}
	g.set(func() { g.lost = errors.New("gone") })
	for range 8 {
		m, _, err := raw(t, addr)
		if err == nil {
			err = say(t, m, "hello")
		}
		var refused *channel.RefusedError
		if errors.As(err, &refused) {
			closes(t, "a session of the old key", first)
			return
		}
	}
	t.Error("sessions are opened without GPUs")
}

// TestGPUCollectionBlocksNobody: while GPUs take their time to answer, at a look and for the next key, sessions
// are opened and served.
func TestGPUCollectionBlocksNobody(t *testing.T) {
	g := newFakeGPUs()
	opt := options(t)
	opt.GPUs, opt.KeySessions = g, 10
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	mustRaw(t, addr)
	release := make(chan struct{})
	g.set(func() { g.wait = release })
	g.changed <- struct{}{}
	for i := range 9 { // the sixth has the next key made
		m, doc := mustRaw(t, addr)
		if err := say(t, m, "hello"); err != nil || doc.Claims.Epoch != 1 {
			t.Fatalf("session %d: key %d, %v", i, doc.Claims.Epoch, err)
		}
	}
	for waiting := 0; waiting < 2; time.Sleep(time.Millisecond) { // a look and a key, or the test ends by its timeout
		g.set(func() { waiting = g.waiting })
	}
	close(release)
	if _, doc := mustRaw(t, addr); doc.Claims.Epoch != 2 {
		t.Errorf("key %d, want the next", doc.Claims.Epoch)
	}
}

// TestGPUsOnASchedule: GPUs are attested again and again, each time with another nonce, without anybody's word that something has changed; a loss is
// found so, and that they are back, under a new key.
func TestGPUsOnASchedule(t *testing.T) {
	g := newFakeGPUs()
	opt := options(t)
	opt.GPUs, opt.GPUInterval = g, 5*time.Millisecond
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	m, doc := mustRaw(t, addr)
	looks := func() (all []evidence.Claims) {
		g.set(func() { all = append(all, g.claims...) })
		return all
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(looks()) < 4 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	all := looks()
	if len(all) < 4 {
		t.Fatalf("%d looks, want one every 5 ms", len(all))
	}
	seen := map[[32]byte]bool{} // what was said once answers no later look
	for i, c := range all {
		if c.Epoch != doc.Claims.Epoch || (c.Static == doc.Claims.Static) != (i == 0) || seen[c.Static] {
			t.Errorf("look %d is about key %d (%x), which serves as %x, want each about another", i, c.Epoch, c.Static[:4], doc.Claims.Static[:4])
		}
		seen[c.Static] = true
	}
	if err := say(t, m, "hello"); err != nil {
		t.Errorf("looks that find nothing: %v", err)
	}
	g.set(func() { g.lost = errors.New("GPU 1 fell off the bus") })
	closes(t, "a session", m)
	g.set(func() { g.lost = nil })
	for {
		_, again, err := raw(t, addr)
		if err == nil {
			if again.Claims.Epoch == doc.Claims.Epoch || again.Claims.Static == doc.Claims.Static {
				t.Errorf("served again under the key of before the loss")
			}
			return
		}
		var refused *channel.RefusedError
		if !errors.As(err, &refused) || time.Now().After(deadline) {
			t.Fatalf("GPUs that are back: %v", err)
		}
		time.Sleep(time.Millisecond)
	}
}

// nobody is a listener that nobody connects to.
type nobody struct {
	closed chan struct{}
	once   sync.Once
}

func newNobody() *nobody { return &nobody{closed: make(chan struct{})} }

func (n *nobody) Accept() (net.Conn, error) { <-n.closed; return nil, net.ErrClosed }
func (n *nobody) Close() error              { n.once.Do(func() { close(n.closed) }); return nil }
func (*nobody) Addr() net.Addr              { return nil }

// TestGPULossWithoutALook: a loss that is found when the next key is made is looked at again as soon as any other.
func TestGPULossWithoutALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGPUs()
		g.changed = nil
		began, at := time.Now(), map[enclave.What][]time.Duration{}
		opt := options(t)
		opt.Now, opt.GPUs, opt.KeyLifetime, opt.GPUInterval = time.Now, g, 2*time.Hour, 24*time.Hour
		opt.Observe = func(e enclave.Event) {
			if e.What == enclave.GPUsLost || e.What == enclave.GPUsServe {
				at[e.What] = append(at[e.What], time.Since(began))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- enclave.Serve(ctx, newNobody(), insecure.Attester{}, enclave.Echo{}, opt) }()
		time.Sleep(59 * time.Minute)
		g.set(func() { g.lost = errors.New("GPU 1 fell off the bus") })
		time.Sleep(time.Minute + time.Second) // at half the key's time the next one is made
		g.set(func() { g.lost = nil })
		time.Sleep(5 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		lost, served := at[enclave.GPUsLost], at[enclave.GPUsServe]
		if len(lost) != 1 || lost[0] != time.Hour || len(served) != 2 || served[1] != time.Hour+30*time.Second {
			t.Errorf("lost after %v, want 1 h; served from %v, want at once and after 1 h 0 m 30 s", lost, served)
		}
	})
}

// TestGPULossTold: who waits for the next key when the GPUs are lost is told so.
func TestGPULossTold(t *testing.T) {
	g := newFakeGPUs()
	opt := options(t)
	opt.GPUs, opt.KeySessions = g, 2
	addr, _ := start(t, insecure.Attester{}, enclave.Echo{}, opt)
	mustRaw(t, addr)
	release := make(chan struct{})
	g.set(func() { g.wait = release })
	mustRaw(t, addr) // and has the next key made
	told := make(chan error, 1)
	go func() {
		_, _, err := raw(t, addr)
		told <- err
	}()
	time.Sleep(50 * time.Millisecond) // it waits for the key, or comes later: the word is the same
	g.set(func() { g.lost = errors.New("GPU 1 fell off the bus") })
	close(release)
	var refused *channel.RefusedError
	if err := <-told; !errors.As(err, &refused) || refused.Code != channel.RefusedGPU {
		t.Errorf("%v, want that the enclave lost a GPU", err)
	}
}
