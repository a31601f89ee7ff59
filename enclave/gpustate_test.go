package enclave

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"tally/enclave/channel"
	"tally/enclave/evidence"
)

// shipping are GPUs whose set for clients is what it is told to be.
type shipping struct {
	set []byte
	err error
}

func (s *shipping) Attest(context.Context, evidence.Claims) (*GPUSet, error) {
	return &GPUSet{Digest: [32]byte{9}, Ship: func() ([]byte, error) { return s.set, s.err }}, nil
}
func (*shipping) Serving(context.Context) error { return nil }
func (*shipping) Changed() <-chan struct{}      { return nil }

// TestGPUSetSize: a key whose GPU set clients could not be given is no key.
func TestGPUSetSize(t *testing.T) {
	for name, c := range map[string]struct {
		gpus shipping
		want string
	}{
		"as large as may be": {shipping{set: make([]byte, channel.MaxGPUEvidence)}, ""},
		"larger":             {shipping{set: make([]byte, channel.MaxGPUEvidence+1)}, "bytes, want 1 to"},
		"empty":              {shipping{}, "GPU set of 0 bytes, want 1 to"},
		"none":               {shipping{set: []byte("x"), err: errors.New("no manifests")}, "GPU set for clients: no manifests"},
	} {
		g := newGPUState(Options{GPUs: &c.gpus, Logger: slog.New(slog.DiscardHandler)})
		var claims evidence.Claims
		set, err := g.bind(t.Context(), &claims)
		if (err == nil) != (c.want == "") || (set == nil) != (err != nil) || (claims.GPU == nil) != (err != nil) {
			t.Errorf("%s: %v, claims with %x", name, err, claims.GPU)
		}
		if err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "%!")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestGPUEras: a loss voids what was found before it, also when nobody was served; the end of a look is no loss.
func TestGPUEras(t *testing.T) {
	lost := 0
	g := newGPUState(Options{GPUs: new(shipping), Logger: slog.New(slog.DiscardHandler), Observe: func(e Event) {
		if e.What == GPUsLost {
			lost++
		}
	}})
	era := g.era()
	g.lose(t.Context(), errors.New("while the engine was looked at"))
	if g.regain(era) || g.serving() || lost != 0 {
		t.Errorf("opened by what was found before a loss; %d losses seen", lost)
	}
	if !g.regain(g.era()) || !g.serving() {
		t.Error("not opened by what was found since")
	}
	ctx, cancel := g.join(t.Context())
	defer cancel()
	ended, end := context.WithCancel(t.Context())
	end()
	era = g.era()
	g.lose(ended, ended.Err())
	if !g.serving() || ctx.Err() != nil || g.era() != era || lost != 0 {
		t.Errorf("the end of a look is taken for a loss: %v", context.Cause(ctx))
	}
	g.lose(t.Context(), errors.New("GPU 1 fell off the bus"))
	<-ctx.Done()
	if g.serving() || !errors.Is(context.Cause(ctx), errGPULost) || lost != 1 {
		t.Errorf("after a loss: serving %v, session %v, %d losses seen", g.serving(), context.Cause(ctx), lost)
	}
	if late, stop := g.join(t.Context()); !errors.Is(context.Cause(late), errGPULost) {
		stop()
		t.Error("a session is opened after a loss")
	}
}
