package enclave

import (
	"context"
	"fmt"
	"sync"
	"time"

	"tally/enclave/channel"
	"tally/enclave/evidence"
	"tally/internal/erase"
)

// A key is one epoch of the enclave's static key with its evidence.
type key struct {
	identity *channel.Identity
	shown    shown
	made     time.Time
	took     time.Duration // to make it and have it attested
	sessions int

	claims evidence.Claims // without GPU
	era    uint64          // gpuState.era when it was made
}

// A keyring hands out the current key and rotates it. The next key is made ahead of time, so that a
// rotation does not keep clients waiting.
type keyring struct {
	attester Attester
	opt      Options
	gpus     *gpuState

	// mu is held while a rotation is waited for: all who come then need the same new key.
	mu    sync.Mutex
	epoch uint64 // of the key made last, whether or not it could be attested
	cur   *key
	next  chan made // not nil while the next key is being made
}

type made struct {
	key *key
	err error
}

// acquire returns the key for one more session. A retired key is dropped here; sessions that run under
// it have their own copies of what they need.
func (r *keyring) acquire(ctx context.Context) (*key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.worn(1, 1) {
		if err := r.rotate(ctx); err != nil {
			return nil, err
		}
	}
	if ahead := r.ahead(); r.next == nil && r.worn(ahead, 10) {
		r.prepare(ctx)
	}
	r.cur.sessions++
	return r.cur, nil
}

// ahead is at how many tenths of a key the next one is made. GPUs take seconds to attest.
func (r *keyring) ahead() int {
	if r.gpus != nil {
		return 5
	}
	return 9
}

// keyRetry is how long the hardware has peace after it did not attest a key that nobody waits for.
const keyRetry = time.Minute

// tend makes the next key when it is due and retires the current one when its time is over, though nobody comes: a key that is
// not needed is not kept, whether or not the platform makes a report for another. It says after how long to look again.
func (r *keyring) tend(ctx context.Context) (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.old(r.cur, 1, 1) {
		r.forget()
		if err := r.rotate(ctx); err != nil {
			return keyRetry, err
		}
	}
	due := r.opt.KeyLifetime
	if r.next == nil && !r.old(r.cur, r.ahead(), 10) {
		due = due * time.Duration(r.ahead()) / 10
	} else if r.next == nil {
		r.prepare(ctx)
	}
	return max(due-r.opt.Now().Sub(r.cur.made), time.Millisecond), nil
}

// forget drops the private half of the current key. What is left is worn, and says when it was made and with what claims.
func (r *keyring) forget() {
	if r.cur.identity == nil {
		return
	}
	worn := *r.cur
	worn.identity = nil
	r.cur = &worn
	erase.Soon()
	r.opt.observe(KeyForgotten, "")
}

// renew makes a key even where the current one is good.
func (r *keyring) renew(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ahead := r.next != nil
	err := r.rotate(ctx)
	if err != nil && ahead && ctx.Err() == nil {
		err = r.rotate(ctx) // what was made ahead failed then
	}
	return err
}

// claims are the current key's, without GPU.
func (r *keyring) claims() evidence.Claims {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cur.claims
}

// worn reports whether num/den of the current key's time or sessions is used up.
func (r *keyring) worn(num, den int) bool {
	k := r.cur
	return k == nil || k.identity == nil || k.era != r.gpus.era() || k.sessions >= r.opt.KeySessions*num/den || r.old(k, num, den)
}

// old reports whether num/den of k's time is used up.
func (r *keyring) old(k *key, num, den int) bool {
	return r.opt.Now().Sub(k.made) >= r.opt.KeyLifetime*time.Duration(num)/time.Duration(den)
}

func (r *keyring) rotate(ctx context.Context) error {
	for {
		if r.next == nil {
			r.prepare(ctx)
		}
		select {
		case m := <-r.next:
			r.next = nil
			switch {
			case m.err != nil:
				return m.err
			case m.key.era != r.gpus.era():
				continue // GPUs were lost since: what it says about them is void
			case r.old(m.key, 1, 1):
				continue // it was made ahead, and then nobody came for a long time
			}
			r.cur = m.key
			erase.Soon() // the retired one, once the handshakes with it have ended
			r.opt.Logger.Info("new key", "epoch", m.key.claims.Epoch)
			r.opt.tell(Event{What: NewKey, Took: m.key.took})
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *keyring) prepare(ctx context.Context) {
	r.epoch++
	r.next = make(chan made, 1)
	go func(epoch uint64, out chan<- made) {
		k, err := r.generate(context.WithoutCancel(ctx), epoch)
		if err == nil {
			r.opt.observe(KeyReady, "")
		}
		out <- made{k, err}
	}(r.epoch, r.next)
}

// generate makes a key and has the platform attest it.
func (r *keyring) generate(ctx context.Context, epoch uint64) (*key, error) {
	static, err := channel.GenerateStatic(r.opt.Rand)
	if err != nil {
		return nil, err
	}
	decap, err := channel.GenerateDecap(r.opt.Rand)
	if err != nil {
		return nil, err
	}
	now, era := r.opt.Now(), r.gpus.era()
	d := evidence.Document{Platform: r.attester.Platform(), Claims: evidence.Claims{
		Authority: r.opt.Authority, Static: static.Public(), Epoch: epoch,
		NotBefore: now.Unix(), NotAfter: now.Add(r.opt.KeyLifetime).Unix(), EncapKey: decap.Public(),
	}}
	d.Claims.Beacon = r.beacon(ctx, epoch) // before the GPUs: what they sign depends on it
	claims := d.Claims
	set, err := r.gpus.bind(ctx, &d.Claims)
	if err != nil {
		return nil, err
	}
	asked := r.opt.Now()
	d.Report, d.Endorsements, err = r.attester.Attest(ctx, d.Claims.ReportData())
	r.opt.reported("key", asked, err)
	if err != nil {
		return nil, fmt.Errorf("enclave: attesting the key: %w", err)
	}
	doc, err := d.Marshal()
	if err != nil {
		return nil, err
	}
	id := &channel.Identity{Static: static, Decap: decap, Payload: append([]byte{channel.InlineEvidence}, doc...)}
	return &key{identity: id, shown: shown{static.Public(), d.Endorsements, set}, made: now, took: r.opt.Now().Sub(now), claims: claims, era: era}, nil
}

// beaconTimeout is how long a host may take to hand over a beacon.
const beaconTimeout = 15 * time.Second

// beacon is the host's for a new key, or nothing: the host could see to that in any case.
func (r *keyring) beacon(ctx context.Context, epoch uint64) []byte {
	if r.opt.Beacon == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, beaconTimeout)
	defer cancel()
	b, err := r.opt.Beacon(ctx)
	if err != nil || len(b) == 0 || len(b) > evidence.MaxBeacon {
		r.opt.Logger.Warn("no beacon", "epoch", epoch, "reason", "the host gave none")
		r.opt.observe(BeaconFailed, "")
		return nil
	}
	return b
}
