package channel

import (
	"errors"
	"fmt"
	"slices"

	"tally/enclave/evidence"
)

const (
	prologueTag = "tally/1\x00"
	suiteAESGCM = 1 // 25519, AESGCM, SHA256
	minVersion  = 1
	refusal     = 0xff // first byte of a refusal
)

// A header is what a client says in clear before message 1. Both sides put the bytes as sent and as read
// into the prologue, so that the handshake fails when somebody changes one.
type header struct {
	kind      Kind
	authority string
	offered   []Kind // ascending, with kind among them
	carrier   Carrier
}

// append writes kind, suite, carrier, lp16(authority), lp16(offered kinds), min_version (PROTOCOL.md, 2).
func (h *header) append(b []byte) []byte {
	b = append(b, byte(h.kind), suiteAESGCM, byte(h.carrier), 0, byte(len(h.authority)))
	b = append(b, h.authority...)
	b = append(b, 0, byte(len(h.offered)))
	for _, k := range h.offered {
		b = append(b, byte(k))
	}
	return append(b, minVersion)
}

// parseHeader splits message 1 into its header and the Noise message after it.
func parseHeader(msg []byte) (h header, size int, err error) {
	r := msg
	take := func(n int) []byte {
		if err != nil || len(r) < n {
			err = errors.New("channel: header too short")
			return make([]byte, n)
		}
		b := r[:n]
		r = r[n:]
		return b
	}
	fixed := take(3)
	h.kind = Kind(fixed[0])
	n := take(2)
	h.authority = string(take(int(n[0])<<8 | int(n[1])))
	n = take(2)
	for _, k := range take(int(n[0])<<8 | int(n[1])) {
		h.offered = append(h.offered, Kind(k))
	}
	version := take(1)[0]
	if err != nil {
		return header{}, 0, err
	}
	h.carrier = Carrier(fixed[2])
	if fixed[1] != suiteAESGCM || h.carrier != CarrierStream && h.carrier != CarrierWebSocket || version != minVersion {
		return header{}, 0, fmt.Errorf("channel: suite %d, carrier %d, version %d, want 1, 1 or 2, 1", fixed[1], fixed[2], version)
	}
	if err := evidence.CheckAuthority(h.authority); err != nil {
		return header{}, 0, fmt.Errorf("channel: %w", err)
	}
	if len(h.offered) == 0 || len(h.offered) > 16 || !slices.Contains(h.offered, h.kind) {
		return header{}, 0, errors.New("channel: offered kinds do not contain the one spoken")
	}
	for i := 1; i < len(h.offered); i++ {
		if h.offered[i] <= h.offered[i-1] {
			return header{}, 0, errors.New("channel: offered kinds not in ascending order")
		}
	}
	return h, len(msg) - len(r), nil
}

// prologue is the Noise prologue for a header as it stood on the wire.
func prologue(wire []byte) []byte { return append([]byte(prologueTag), wire...) }

// families maps each kind to the full handshake of its strength.
func families(kinds []Kind) (out []Kind) {
	for _, k := range kinds {
		out = append(out, k.family())
	}
	return out
}

// strongest returns the best full handshake in both lists, 0 when they share none.
func strongest(a, b []Kind) Kind {
	var best Kind
	for _, k := range []Kind{Classical, Hybrid} { // weakest first
		if slices.Contains(a, k) && slices.Contains(b, k) {
			best = k
		}
	}
	return best
}

// judge says whether a server with these kinds takes h; 0 means yes.
func (c *Config) judge(h *header) Refusal {
	switch {
	case h.authority != c.Authority:
		return RefusedAuthority
	case !h.kind.known() || strongest(c.Kinds, families(h.offered)) != h.kind.family():
		return RefusedKind
	}
	return 0
}

// withDefaults checks c and fills in what may be left out.
func (c Config) withDefaults() (Config, error) {
	if c.Rand == nil || c.Now == nil {
		return c, errors.New("channel: no source of randomness, or no clock")
	}
	if err := evidence.CheckAuthority(c.Authority); err != nil {
		return c, fmt.Errorf("channel: %w", err)
	}
	if len(c.Kinds) == 0 {
		c.Kinds = []Kind{Hybrid}
	}
	c.Kinds = slices.Compact(slices.Sorted(slices.Values(c.Kinds)))
	for _, k := range c.Kinds {
		if k != Classical && k != Hybrid {
			return c, fmt.Errorf("channel: %v is not supported", k)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = HandshakeTimeout
	}
	if c.RekeyAfter == 0 {
		c.RekeyAfter = MaxRecordsPerKey
	}
	if c.MaxPayload == 0 {
		c.MaxPayload = DefaultMaxPayload
	}
	if err := c.Pin.check(c.MaxPayload); err != nil {
		return c, err
	}
	if c.Timeout < 0 || c.RekeyAfter < 2 || c.RekeyAfter > MaxRecordsPerKey || c.MaxPayload < 0 || c.MaxPayload > DefaultMaxPayload {
		return c, errors.New("channel: a limit out of range")
	}
	return c, nil
}
