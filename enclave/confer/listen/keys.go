package listen

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"
	"unicode/utf8"

	"tally/enclave"
	"tally/enclave/attest/snp"
	"tally/enclave/attest/tdx"
	"tally/enclave/confer"
	"tally/internal/erase"
)

// A key is one static key with message 2's payload about it.
type key struct {
	static   *confer.StaticKey
	payload  []byte
	made     time.Time
	sessions int
}

// A keyring hands out the current key, and makes another when that is worn: the rule of tally/1's keys.
type keyring struct {
	opt *Options

	turn  chan struct{} // of one place: a lock that a handshake waits for no longer than it has
	epoch uint64
	cur   *key
}

func newKeyring(opt *Options) *keyring { return &keyring{opt: opt, turn: make(chan struct{}, 1)} }

// platform is Confer's name for an attester.
func platform(name string, insecure bool) (string, error) {
	switch {
	case name == snp.Platform:
		return confer.PlatformSNP, nil
	case name == tdx.Platform:
		return confer.PlatformTDX, nil
	case insecure:
		return name, nil
	}
	return "", fmt.Errorf("confer listener: attester %.40q: Confer's clients know reports by snp and tdx alone", name)
}

// acquire returns the key for one more session. Sessions that are open keep nothing of a key that is retired.
func (r *keyring) acquire(ctx context.Context) (*confer.StaticKey, []byte, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("confer listener: waiting for the key: %w", context.Cause(ctx))
	}
	if k := r.cur; k == nil || k.sessions >= r.opt.KeySessions || r.opt.Now().Sub(k.made) >= r.opt.KeyLifetime {
		next, err := r.generate(ctx)
		if err != nil {
			return nil, nil, err
		}
		r.cur = next
		erase.Soon() // the retired one, once the handshakes with it have ended
		r.epoch++
		epoch := r.epoch // and not the key, which a timer would keep
		time.AfterFunc(r.opt.KeyLifetime, func() { r.drop(epoch) })
		r.opt.Logger.Info("new key for Confer's wire", "epoch", r.epoch)
		r.opt.Observe(enclave.Event{What: enclave.NewKey})
	}
	r.cur.sessions++
	return r.cur.static, r.cur.payload, nil
}

// drop forgets the key of an epoch when its time is over, though nobody comes.
func (r *keyring) drop(epoch uint64) {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	if r.epoch == epoch {
		r.cur = nil
		erase.Soon()
	}
}

// generate makes a key and has the platform make a report about it, which is not evidence of tally/1.
func (r *keyring) generate(ctx context.Context) (*key, error) {
	name, err := platform(r.opt.Attester.Platform(), r.opt.InsecureAttester)
	if err != nil {
		return nil, err
	}
	static, err := confer.GenerateStatic(r.opt.Rand)
	if err != nil {
		return nil, err
	}
	k := &key{static: static, made: r.opt.Now()}
	report, _, err := r.opt.Attester.Attest(ctx, confer.ReportData(static.Public()))
	if err != nil {
		return nil, fmt.Errorf("confer listener: attesting the key: %w", err)
	}
	e := confer.Evidence{Platform: name, Attestation: base64.StdEncoding.EncodeToString(report)}
	e.Manifest, e.ManifestBundle = r.manifest(ctx)
	if k.payload, err = e.Marshal(); err != nil && e.Manifest != "" {
		r.noManifest("what the host gave is too long")
		e.Manifest, e.ManifestBundle = "", ""
		k.payload, err = e.Marshal()
	}
	return k, err
}

// manifestTimeout is how long a host may take to hand over manifest and bundle.
const manifestTimeout = 15 * time.Second

// manifest is the host's, or nothing: the host could see to that in any case.
func (r *keyring) manifest(ctx context.Context) (manifest, bundle string) {
	if r.opt.Manifest == nil {
		return "", ""
	}
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	m, b, err := r.opt.Manifest(ctx)
	if err != nil || len(m) == 0 || len(b) == 0 || !utf8.Valid(m) || !utf8.Valid(b) {
		r.noManifest("the host gave none")
		return "", ""
	}
	return string(m), string(b)
}

func (r *keyring) noManifest(why string) {
	r.opt.Logger.Warn("no manifest for Confer's wire", "reason", why)
}
