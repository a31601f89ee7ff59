package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Confer asks for a listener of Confer's wire protocol (tally/enclave/confer/listen) before the same engine, beside the
// service and on a port of its own. What that protocol gives is less than the service's, and statements of a release
// name it. In the configuration:
//
//	"confer": {
//	  "listen": ":7444",                   TCP address, [IP]:PORT; WebSocket connections at /websocket
//	  "context-tokens": 4096,              what clients are told that a conversation may have at most
//	  "manifest": "http://10.0.2.2:8080/manifest.json",
//	  "manifest-bundle": "http://10.0.2.2:8080/manifest.sigstore.json",
//	                                       optional, both: where the host says what the enclave should be, fetched for each
//	                                       new key and passed on unread; http, an IP address with a port, and a path
//	  "insecure-attesters": true           optional, for tests: attesters may be others than snp and tdx, in whose place
//	                                       clients see their names. Confer's know none of them
//	}
//
// It wants an engine, and none on GPUs: the protocol has no evidence of them, and does not end when one is lost.
type Confer struct {
	Listen         netip.AddrPort
	ContextTokens  int64
	Manifest       string // URL; empty: none
	ManifestBundle string // URL; empty: none
	Insecure       bool
}

// WireConfer is Confer's word in Wires.
const WireConfer = "confer"

// Wires are the protocols by which clients reach the engine beside the service's own, tally/1, sorted.
func (c *Config) Wires() (wires []string) {
	if c.Confer != nil {
		wires = append(wires, WireConfer)
	}
	return wires
}

// readConfer comes after operator, engine and gpu.
func readConfer(c *Config, top map[string]json.RawMessage) (err error) {
	if c.Confer, err = parseConfer(top["confer"]); err != nil {
		return err
	}
	port := c.Confer.Listen.Port()
	switch {
	case c.Engine == nil:
		return errors.New("confer: want an engine that answers")
	case c.GPUs != nil:
		return errors.New("confer: stands beside gpu: this protocol has no evidence of GPUs")
	case port == c.Listen.Port() || port == c.Operator.Port():
		return fmt.Errorf("confer.listen %q: want another port than listen and operator", c.Confer.Listen)
	}
	for _, name := range c.Attesters {
		if !c.Confer.Insecure && !slices.Contains([]string{"snp", "tdx"}, name) {
			return fmt.Errorf("confer: stands beside the attester %q: Confer's clients know snp and tdx alone", name)
		}
	}
	return nil
}

func parseConfer(raw json.RawMessage) (*Confer, error) {
	o, err := object(raw, "confer.", []string{"listen", "context-tokens"}, []string{"manifest", "manifest-bundle", "insecure-attesters"})
	if err != nil {
		return nil, err
	}
	c := new(Confer)
	if c.Listen, err = listenAddr(o, "listen"); err != nil {
		return nil, fmt.Errorf("confer.%w", err)
	}
	if c.ContextTokens, err = whole(o["context-tokens"], "confer.context-tokens", 1<<31-1); err != nil {
		return nil, err
	}
	if (o["manifest"] == nil) != (o["manifest-bundle"] == nil) {
		return nil, errors.New("confer: want manifest and manifest-bundle, or neither")
	}
	for key, to := range map[string]*string{"manifest": &c.Manifest, "manifest-bundle": &c.ManifestBundle} {
		if o[key] == nil {
			continue
		}
		if *to, err = hostURL(o, "confer.", key); err != nil {
			return nil, err
		}
	}
	if raw, ok := o["insecure-attesters"]; ok && string(raw) != "true" {
		return nil, errors.New("confer.insecure-attesters: want true, or the key left out")
	}
	_, c.Insecure = o["insecure-attesters"]
	return c, nil
}
