package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// optional are the keys that a configuration may do without, in the order in which they are read.
var optional = []struct {
	key  string
	read func(c *Config, top map[string]json.RawMessage) error
}{
	{"operator", readOperator}, {"beacon", readBeacon}, {"websocket", readWebSocket}, {"cover", readCover},
	{"network", func(c *Config, top map[string]json.RawMessage) (err error) {
		c.Network, err = parseNetwork(top["network"])
		return err
	}},
	{"engine", func(c *Config, top map[string]json.RawMessage) (err error) {
		c.Engine, err = parseEngine(top["engine"])
		return err
	}},
	{"gpu", readGPUs},
	{"secrets", readSecrets}, {"confer", readConfer},
}

func optionalKeys() (keys []string) {
	for _, o := range optional {
		keys = append(keys, o.key)
	}
	return keys
}

func readOperator(c *Config, top map[string]json.RawMessage) (err error) {
	if c.Operator, err = listenAddr(top, "operator"); err != nil {
		return err
	}
	if c.Operator.Port() == c.Listen.Port() {
		return fmt.Errorf("operator %q: want another port than listen", c.Operator)
	}
	return nil
}

func readWebSocket(c *Config, top map[string]json.RawMessage) (err error) {
	if c.WebSocket, err = text(top, "websocket"); err != nil {
		return err
	}
	if !urlPath().MatchString(c.WebSocket) {
		return fmt.Errorf("websocket %.80q: want the path of a URL: / and letters, digits and ._~/-, at most 128", c.WebSocket)
	}
	return nil
}

func readCover(c *Config, top map[string]json.RawMessage) error {
	raw := string(top["cover"])
	if c.Cover = raw == "true"; !c.Cover && raw != "false" {
		return fmt.Errorf("cover %.20q: want true or false", raw)
	}
	return nil
}

func readBeacon(c *Config, top map[string]json.RawMessage) (err error) {
	c.Beacon, err = hostURL(top, "", "beacon")
	return err
}

// readGPUs comes after the engine.
func readGPUs(c *Config, top map[string]json.RawMessage) (err error) {
	if c.GPUs, err = parseGPUs(top["gpu"]); err != nil {
		return err
	}
	if c.Engine == nil {
		return errors.New("gpu: want an engine that computes on them")
	}
	c.Engine.GPU = true
	return nil
}

// hostURL wants a URL that needs no resolver and holds no secret.
func hostURL(o map[string]json.RawMessage, at, key string) (string, error) {
	s, err := text(o, key)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(s)
	if err == nil {
		var host netip.AddrPort
		if host, err = netip.ParseAddrPort(u.Host); err == nil && host.Port() != 0 && u.String() == s && s == "http://"+u.Host+u.Path && strings.HasPrefix(u.Path, "/") {
			return s, nil
		}
	}
	return "", fmt.Errorf("%s%s %.80q: want http://IP:PORT/PATH", at, key, s)
}

func parseNetwork(raw json.RawMessage) (*Network, error) {
	o, err := object(raw, "network.", []string{"interface", "address"}, []string{"gateway"})
	if err != nil {
		return nil, err
	}
	n := new(Network)
	if n.Interface, err = text(o, "interface"); err != nil {
		return nil, err
	}
	if !ifaceName().MatchString(n.Interface) || n.Interface == "lo" {
		return nil, fmt.Errorf("network.interface %.80q: want the name of an interface other than lo", n.Interface)
	}
	s, err := text(o, "address")
	if err != nil {
		return nil, err
	}
	if n.Address, err = netip.ParsePrefix(s); err != nil || !n.Address.Addr().Is4() || n.Address.Bits() == 0 {
		return nil, fmt.Errorf("network.address %.80q: want an IPv4 address with prefix length", s)
	}
	if _, ok := o["gateway"]; !ok {
		return n, nil
	}
	if s, err = text(o, "gateway"); err != nil {
		return nil, err
	}
	n.Gateway, err = netip.ParseAddr(s)
	if err != nil || !n.Address.Contains(n.Gateway) || n.Gateway == n.Address.Addr() {
		return nil, fmt.Errorf("network.gateway %.80q: want another IPv4 address in %s", s, n.Address.Masked())
	}
	return n, nil
}
