// Package guest makes a booted root file system fit to serve: mounts, host name, network, lock-down,
// reaping, power off. It is what an init system would be, for a process that is PID 1 and the service at
// once.
//
// # The configuration file
//
// /etc/tally/enclave.json lies in the verified root, so it is measured; nothing else configures the
// guest. Every key is required unless marked, no other is known, none may stand twice:
//
//	{
//	  "schema": "tally.enclave-config/v1",
//	  "hostname": "minimal",                 RFC 1123 label
//	  "listen": ":7443",                     TCP address of the service, [IP]:PORT, or "vsock:PORT" for AF_VSOCK
//	  "websocket": "/tally",                 optional: there are WebSocket connections at listen, at this path, and no others
//	  "attesters": ["snp", "tdx"],           who may attest, in order of preference: see Attesters
//	  "operator": ":9090",                   optional, [IP]:PORT of metrics and health (tally/enclave/operate)
//	  "beacon": "http://10.0.2.2:8080/checkpoint",
//	                                         optional: where a log's cosigned checkpoint is fetched for each new key
//	                                         (freshness: key); http, an IP address with a port, and a path
//	  "cover": true,                         optional: cover records at each tick while an exchange is open
//	  "network": {                           optional; without it there is only loopback
//	    "interface": "eth0",
//	    "address": "10.0.2.15/24",           IPv4 with prefix length
//	    "gateway": "10.0.2.2"                optional, in the same network
//	  },
//	  "engine": {                            optional; without it the service echoes
//	    "command": ["/usr/bin/llama-server", "--host", "/run/engine/engine.sock"],
//	                                         1 to 64 words, the first an absolute path
//	    "uid": 990,                          user and group that it runs as, 1 to 65533
//	    "memory-mib": 2048,                  optional, of its cgroup; without it there is no limit
//	    "shared-mib": 1024,                  optional: it has a /dev/shm of so much
//	    "loopback": true                     optional: it may speak with itself over 127.0.0.1
//	  },
//	  "gpu": {…},                            optional: what the engine computes on, see GPUs; without it the engine has no GPU
//	  "secrets": {…},                        optional: what an operator must send before the engine starts, see Secrets
//	  "confer": {…}                          optional: the engine is reached by Confer's wire protocol, too, see Confer
//	}
//
// An engine has to listen on EngineSocket and speak the OpenAI API there. How it is kept apart: Engine.
package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// ConfigPath is where the root keeps its configuration; ConfigSchema is its schema word.
const (
	ConfigPath   = "/etc/tally/enclave.json"
	ConfigSchema = "tally.enclave-config/v1"

	maxConfig = 64 << 10 // bytes
)

// A Config is the measured configuration of a guest. The zero Config is invalid.
type Config struct {
	Hostname string
	Listen   netip.AddrPort // an unspecified address means all; the zero AddrPort: Vsock
	Vsock    uint32         // port of AF_VSOCK at which the service listens, for every peer; 0: Listen

	// Attesters are who may attest, 1 to 4 of the names that Attesters returns. The first that the machine has
	// does; where it has none of them the guest does not serve.
	Attesters []string

	Network  *Network       // nil: loopback only
	Engine   *Engine        // nil: none
	Operator netip.AddrPort // the zero AddrPort: nobody is told anything
	Beacon   string         // URL; empty: none
	GPUs     *GPUs          // nil: none, and evidence says nothing of any
	Secrets  *Secrets       // nil: none, and the engine starts at once
	Confer   *Confer        // nil: there is no such listener

	Cover     bool
	WebSocket string // path of the URL; empty: bare TCP
}

// A Network is one static interface.
type Network struct {
	Interface string
	Address   netip.Prefix // IPv4 address with the length of its network
	Gateway   netip.Addr   // the zero Addr: none
}

// Attesters returns what a configuration may name, which are the platforms of evidence: snp and tdx are
// hardware; vtpm-azure is the TPM of an Azure confidential VM, by a key that its paravisor has had the processor sign, and
// vtpm-svsm one that an SVSM keeps, of whose endorsement key it has had the processor sign;
// vtpm-unendorsed is the machine's TPM and insecure nobody, and the host can forge what they say.
// There is no default: a guest that may go without hardware says so in its measured configuration.
func Attesters() []string {
	return []string{"snp", "tdx", "vtpm-azure", "vtpm-svsm", "vtpm-unendorsed", "insecure"}
}

// LoadConfig reads and checks the file at path.
func LoadConfig(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads a configuration in the form of the package comment.
func ParseConfig(b []byte) (*Config, error) {
	if len(b) > maxConfig {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(b), maxConfig)
	}
	top, err := object(b, "", []string{"schema", "hostname", "listen", "attesters"}, optionalKeys())
	if err != nil {
		return nil, err
	}
	c := new(Config)
	if s, err := text(top, "schema"); err != nil || s != ConfigSchema {
		return nil, errors.Join(err, fmt.Errorf("schema %.80q: want %q", s, ConfigSchema))
	}
	if c.Hostname, err = text(top, "hostname"); err != nil {
		return nil, err
	}
	if !hostLabel().MatchString(c.Hostname) {
		return nil, fmt.Errorf("hostname %.80q: want letters, digits and hyphens, at most 63", c.Hostname)
	}
	if err = c.readListen(top); err != nil {
		return nil, err
	}
	if c.Attesters, err = parseAttesters(top["attesters"]); err != nil {
		return nil, err
	}
	for _, o := range optional {
		if _, ok := top[o.key]; ok {
			if err := o.read(c, top); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// Compiled when first used: tally links this package too, and most of its commands read no guest's configuration.
var (
	hostLabel = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`) })
	ifaceName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9]{0,14}$`) }) // IFNAMSIZ less the NUL
	urlPath   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/[a-zA-Z0-9._~/-]{0,127}$`) })
)

func (c *Config) readListen(top map[string]json.RawMessage) (err error) {
	s, err := text(top, "listen")
	if err != nil {
		return err
	}
	port, ok := strings.CutPrefix(s, "vsock:")
	if !ok {
		c.Listen, err = listenAddr(top, "listen")
		return err
	}
	n, err := strconv.ParseUint(port, 10, 32)
	if err != nil || n == 0 || n == math.MaxUint32 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("listen %.80q: want vsock:PORT with a port from 1 to %d", s, uint32(math.MaxUint32-1))
	}
	c.Vsock = uint32(n)
	return nil
}

func listenAddr(top map[string]json.RawMessage, key string) (netip.AddrPort, error) {
	s, err := text(top, key)
	if err != nil {
		return netip.AddrPort{}, err
	}
	full := s
	if len(s) > 0 && s[0] == ':' {
		full = "0.0.0.0" + s
	}
	a, err := netip.ParseAddrPort(full)
	if err != nil || a.Port() == 0 {
		return a, fmt.Errorf("%s %.80q: want [IP]:PORT with a port from 1 to 65535", key, s)
	}
	return a, nil
}

func parseAttesters(raw json.RawMessage) (list []string, err error) {
	known := Attesters()
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil, fmt.Errorf("attesters: want a list of some of %q", known)
	}
	for i, name := range list {
		if !slices.Contains(known, name) || slices.Contains(list[:i], name) {
			return nil, fmt.Errorf("attesters: %.40q: want some of %q, each once", name, known)
		}
	}
	return list, nil
}

// object reads one JSON object whose keys are exactly the required ones and some of the optional ones,
// each once and in this spelling: encoding/json alone would take keys twice or in another case.
func object(b []byte, at string, required, optional []string) (map[string]json.RawMessage, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(err, fmt.Errorf("%swant a JSON object", at))
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string)
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("key %.80q stands there twice", at+key)
		}
		if !slices.Contains(required, key) && !slices.Contains(optional, key) {
			return nil, fmt.Errorf("unknown key %.80q", at+key)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("%s%s: %w", at, key, err)
		}
		out[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON object")
	}
	for _, key := range required {
		if _, ok := out[key]; !ok {
			return nil, fmt.Errorf("no key %q", at+key)
		}
	}
	return out, nil
}

func text(o map[string]json.RawMessage, key string) (string, error) {
	var s *string
	if err := json.Unmarshal(o[key], &s); err != nil || s == nil {
		return "", fmt.Errorf("key %q: want a string", key)
	}
	return *s, nil
}
