package guest

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const goodConfig = `{"schema": "tally.enclave-config/v1", "hostname": "minimal", "listen": ":7443", "attesters": ["snp", "vtpm-unendorsed"],
	"network": {"interface": "eth0", "address": "10.0.2.15/24", "gateway": "10.0.2.2"}}`

var compareNetip = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func TestParseConfig(t *testing.T) {
	for in, want := range map[string]Config{
		goodConfig: {Hostname: "minimal", Listen: netip.MustParseAddrPort("0.0.0.0:7443"), Attesters: []string{"snp", "vtpm-unendorsed"}, Network: &Network{
			Interface: "eth0", Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2")}},
		`{"listen":"127.0.0.1:1","hostname":"a","attesters":["insecure"],"schema":"tally.enclave-config/v1"}` + "\n": {Hostname: "a", Listen: netip.MustParseAddrPort("127.0.0.1:1"), Attesters: []string{"insecure"}},
		`{"schema":"tally.enclave-config/v1","hostname":"a","listen":":1","attesters":["tdx","snp","insecure","vtpm-unendorsed"],"operator":"127.0.0.1:9090"}`: {Hostname: "a",
			Attesters: []string{"tdx", "snp", "insecure", "vtpm-unendorsed"},
			Listen:    netip.MustParseAddrPort("0.0.0.0:1"), Operator: netip.MustParseAddrPort("127.0.0.1:9090")},
		`{"schema":"tally.enclave-config/v1","hostname":"a","listen":":1","attesters":["snp"],"beacon":"http://10.0.2.2:8080/checkpoint"}`: {Hostname: "a",
			Attesters: []string{"snp"}, Listen: netip.MustParseAddrPort("0.0.0.0:1"), Beacon: "http://10.0.2.2:8080/checkpoint"},
		`{"schema":"tally.enclave-config/v1","hostname":"a","listen":":1","attesters":["snp"],"websocket":"/v1/tally.noise","cover":true}`: {Hostname: "a",
			Attesters: []string{"snp"}, Listen: netip.MustParseAddrPort("0.0.0.0:1"), WebSocket: "/v1/tally.noise", Cover: true},
		`{"schema":"tally.enclave-config/v1","hostname":"a","listen":"vsock:4294967294","attesters":["snp"],"operator":":1"}`: {Hostname: "a",
			Attesters: []string{"snp"}, Vsock: 4294967294, Operator: netip.MustParseAddrPort("0.0.0.0:1")},
		strings.Replace(goodConfig, `, "gateway": "10.0.2.2"`, "", 1): {Hostname: "minimal", Listen: netip.MustParseAddrPort("0.0.0.0:7443"), Attesters: []string{"snp", "vtpm-unendorsed"}, Network: &Network{
			Interface: "eth0", Address: netip.MustParsePrefix("10.0.2.15/24")}},
	} {
		got, err := ParseConfig([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if d := cmp.Diff(want, *got, compareNetip); d != "" {
			t.Errorf("%s: %s", in, d)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{goodConfig, "", "want a JSON object"},
		{goodConfig, "[]", "want a JSON object"},
		{goodConfig, "null", "want a JSON object"},
		{goodConfig, "{}", `no key "schema"`},
		{goodConfig, goodConfig + "{}", "data after"},
		{goodConfig, goodConfig + "x", "data after"},
		{goodConfig, goodConfig[:len(goodConfig)-1], "EOF"},
		{goodConfig, strings.Repeat(" ", maxConfig) + "{}", "at most 65536"},
		{"minimal", "mini\xffmal", "UTF-8"},
		{"config/v1", "config/v2", `want "tally.enclave-config/v1"`},
		{`"hostname"`, `"Hostname"`, `unknown key "Hostname"`},
		{`"hostname"`, `"shell": true, "hostname"`, `unknown key "shell"`},
		{`"hostname"`, `"listen": ":1", "hostname"`, `"listen" stands there twice`},
		{`"hostname": "minimal",`, ``, `no key "hostname"`},
		{`"minimal"`, `null`, `key "hostname": want a string`},
		{`"minimal"`, `7`, `key "hostname": want a string`},
		{`"minimal"`, `"-a"`, "hostname"},
		{`"minimal"`, `"a.b"`, "hostname"},
		{`"minimal"`, `"` + strings.Repeat("a", 64) + `"`, "hostname"},
		{`":7443"`, `"7443"`, "listen"},
		{`":7443"`, `":0"`, "listen"},
		{`":7443"`, `"localhost:7443"`, "listen"},
		{`":7443"`, `""`, "listen"},
		{`":7443"`, `"vsock:"`, "want vsock:PORT"},
		{`":7443"`, `"vsock:0"`, "want vsock:PORT"},
		{`":7443"`, `"vsock:07443"`, "want vsock:PORT"},
		{`":7443"`, `"vsock:4294967295"`, "want vsock:PORT with a port from 1 to 4294967294"},
		{`":7443"`, `"vsock:3:7443"`, "want vsock:PORT"},
		{` "attesters": ["snp", "vtpm-unendorsed"],`, ``, `no key "attesters"`},
		{`["snp", "vtpm-unendorsed"]`, `null`, "attesters: want a list"},
		{`["snp", "vtpm-unendorsed"]`, `[]`, "attesters: want a list"},
		{`["snp", "vtpm-unendorsed"]`, `"snp"`, "attesters: want a list"},
		{`"vtpm-unendorsed"`, `null`, `attesters: ""`},
		{`"vtpm-unendorsed"`, `"snp"`, `attesters: "snp": want some of`},
		{`"vtpm-unendorsed"`, `"hardware"`, `attesters: "hardware": want some of ["snp" "tdx" "vtpm-azure" "vtpm-svsm" "vtpm-unendorsed" "insecure"], each once`},
		{`"interface"`, `"dhcp": 1, "interface"`, `unknown key "network.dhcp"`},
		{`"interface": "eth0",`, ``, `no key "network.interface"`},
		{`"eth0"`, `"lo"`, "network.interface"},
		{`"eth0"`, `"../eth0"`, "network.interface"},
		{`"eth0"`, `"eth0123456789012"`, "network.interface"},
		{`15/24`, `15`, "network.address"},
		{`15/24`, `15/33`, "network.address"},
		{`15/24`, `15/0`, "network.address"},
		{`"10.0.2.15/24"`, `"fe80::1/64"`, "network.address"},
		{`"10.0.2.2"`, `"10.0.3.2"`, "network.gateway"},
		{`"10.0.2.2"`, `"10.0.2.15"`, "network.gateway"},
		{`"10.0.2.2"`, `""`, "network.gateway"},
		{`{"interface"`, `[{"interface"`, "network"},
		{`"network"`, `"operator": ":7443", "network"`, "another port"},
		{`"network"`, `"operator": "9090", "network"`, "operator"},
		{`"network"`, `"operator": 9090, "network"`, "operator"},
		{`"network"`, `"cover": "yes", "network"`, "want true or false"},
		{`"network"`, `"cover": 1, "network"`, "want true or false"},
		{`"network"`, `"websocket": "", "network"`, "want the path of a URL"},
		{`"network"`, `"websocket": true, "network"`, "want a string"},
		{`"network"`, `"websocket": "tally", "network"`, "want the path of a URL"},
		{`"network"`, `"websocket": "/a?b", "network"`, "want the path of a URL"},
		{`"network"`, `"beacon": "", "network"`, "beacon"},
		{`"network"`, `"beacon": "https://10.0.2.2:80/c", "network"`, "want http://IP:PORT/PATH"},
		{`"network"`, `"beacon": "http://log.example:80/c", "network"`, "want http://IP:PORT/PATH"},
		{`"network"`, `"beacon": "http://10.0.2.2/c", "network"`, "want http://IP:PORT/PATH"},
		{`"network"`, `"beacon": "http://10.0.2.2:0/c", "network"`, "want http://IP:PORT/PATH"},
		{`"network"`, `"beacon": "http://10.0.2.2:80", "network"`, "want http://IP:PORT/PATH"},
		{`"network"`, `"beacon": "http://10.0.2.2:80/c?q", "network"`, "want http://IP:PORT/PATH"},
		{`"network"`, `"beacon": "http://10.0.2.2:80/c#f", "network"`, "want http://IP:PORT/PATH"},
		{`"network"`, `"beacon": "http://u@10.0.2.2:80/c", "network"`, "want http://IP:PORT/PATH"},
	} {
		in := strings.Replace(goodConfig, c.old, c.new, 1)
		if in == goodConfig {
			t.Fatalf("%q is not in the configuration", c.old)
		}
		if got, err := ParseConfig([]byte(in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %+v, %v, want %q", c.new, c.old, got, err, c.want)
		}
	}
}

func TestLoadConfigNamesTheFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "enclave.json")
	if _, err := LoadConfig(p); !os.IsNotExist(err) {
		t.Errorf("error %v", err)
	}
	if err := os.WriteFile(p, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(p); err == nil || !strings.HasPrefix(err.Error(), p) {
		t.Errorf("error %v", err)
	}
}

// The examples' own configurations are read by the code that boots them.
func TestExampleConfigs(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/enclave*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, file := range append(files, "../../examples/minimal/rootfs"+ConfigPath) {
		if _, err := LoadConfig(file); err != nil {
			t.Error(err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte(`{"schema":"tally.enclave-config/v1","hostname":"a","listen":"[::]:9","attesters":["insecure"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if c.Listen.Port() == 0 || len(c.Attesters) == 0 || !hostLabel().MatchString(c.Hostname) || c.Network != nil && !c.Network.Address.Addr().Is4() {
			t.Errorf("%+v", c)
		}
	})
}
