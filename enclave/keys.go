package enclave

import (
	"context"
	"fmt"
	"sync/atomic"
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

	// turn holds a token while a rotation is waited for: all who come then need the same new key.
	turn  chan struct{}
	epoch uint64              // of the key made last, whether or not it could be attested
	cur   atomic.Pointer[key] // changed in turn
	next  chan made           // nil: the next key is not made yet
	tried time.Time           // when it was begun
}

func newKeyring(a Attester, opt Options, gpus *gpuState) *keyring {
	return &keyring{attester: a, opt: opt, gpus: gpus, turn: make(chan struct{}, 1)}
}

// take waits for the turn as long as ctx lasts.
func (r *keyring) take(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *keyring) give() { <-r.turn }

type made struct {
	key *key
	err error
}

// acquire returns the key for one more session. A retired key is dropped here; sessions that run under
// it have their own copies of what they need.
func (r *keyring) acquire(ctx context.Context) (*key, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	defer r.give()
	if r.worn(1, 1) {
		if err := r.rotate(ctx); err != nil {
			return nil, err
		}
	}
	if ahead := r.ahead(); r.worn(ahead, 10) && r.missing() {
		r.prepare(ctx)
	}
	k := r.cur.Load()
	k.sessions++
	return k, nil
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
	if err := r.take(ctx); err != nil {
		return keyRetry, err
	}
	defer r.give()
	if r.old(r.cur.Load(), 1, 1) {
		r.forget()
		if err := r.rotate(ctx); err != nil {
			return keyRetry, err
		}
	}
	cur, wait := r.cur.Load(), keyRetry // as long as it is not known whether the next one can be had
	switch m, there := r.peek(); {
	case there && m.err == nil:
		wait = r.opt.KeyLifetime
	case r.next == nil && !r.old(cur, r.ahead(), 10):
		wait = r.opt.KeyLifetime*time.Duration(r.ahead())/10 - r.opt.Now().Sub(cur.made)
	case r.missing():
		r.prepare(ctx)
	}
	return max(min(wait, r.opt.KeyLifetime-r.opt.Now().Sub(cur.made)), time.Millisecond), nil
}

// missing reports whether the next key is to be made: it was not begun, or failed a while ago.
func (r *keyring) missing() bool {
	m, there := r.peek()
	return r.next == nil || there && m.err != nil && r.opt.Now().Sub(r.tried) >= keyRetry
}

// peek is what came of the next key, if that is known.
func (r *keyring) peek() (made, bool) {
	select {
	case m := <-r.next: // never, where there is none
		r.next <- m
		return m, true
	default:
		return made{}, false
	}
}

// forget drops the private half of the current key. What is left is worn, and says when it was made and with what claims.
func (r *keyring) forget() {
	cur := r.cur.Load()
	if cur.identity == nil {
		return
	}
	worn := *cur
	worn.identity = nil
	r.cur.Store(&worn)
	erase.Soon()
	r.opt.observe(KeyForgotten, "")
}

// renew makes a key even where the current one is good.
func (r *keyring) renew(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	return r.rotate(ctx)
}

// claims are the current key's, without GPU.
func (r *keyring) claims() evidence.Claims { return r.cur.Load().claims }

// worn reports whether num/den of the current key's time or sessions is used up.
func (r *keyring) worn(num, den int) bool {
	k := r.cur.Load()
	return k == nil || k.identity == nil || k.era != r.gpus.era() || k.sessions >= r.opt.KeySessions*num/den || r.old(k, num, den)
}

// old reports whether num/den of k's time is used up.
func (r *keyring) old(k *key, num, den int) bool {
	return r.opt.Now().Sub(k.made) >= r.opt.KeyLifetime*time.Duration(num)/time.Duration(den)
}

// rotate has the next key serve. One that could not be made some time ago is made now.
func (r *keyring) rotate(ctx context.Context) error {
	if m, there := r.peek(); there && m.err != nil {
		r.next = nil
	}
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
			r.cur.Store(m.key)
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
	r.next, r.tried = make(chan made, 1), r.opt.Now()
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
