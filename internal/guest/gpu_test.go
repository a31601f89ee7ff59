package guest

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const goodGPU = `{"helper": "/usr/lib/tally/gpu-helper", "gpus": 8, "switches": 4,
	"accept": [{"family": "hopper", "driver": "550.90.07", "vbios": "96.00.5E.00.01"}, {"family": "ls10", "vbios": "96.10.55.00.01"}],
	"modes": ["ppcie", "unstated"], "rims": ["/usr/share/rims/a.xml", "/usr/share/rims/b.xml"], "engine-memory-mib": 1024, "attest-minutes": 60}`

func withGPU(gpu string) string {
	return strings.Replace(goodConfig, `"network"`, `"engine": {"command": ["/e"], "uid": 990}, "gpu": `+gpu+`, "network"`, 1)
}

func TestGPUConfig(t *testing.T) {
	want := &GPUs{Helper: "/usr/lib/tally/gpu-helper", Count: 8, Switches: 4, Accept: []GPUFloor{{"hopper", "550.90.07", "96.00.5E.00.01"}, {"ls10", "", "96.10.55.00.01"}},
		Modes: []string{"ppcie", "unstated"}, RIMs: []string{"/usr/share/rims/a.xml", "/usr/share/rims/b.xml"}, EngineMemoryMiB: 1024, LoadTime: 15 * time.Minute, Attest: time.Hour}
	c, err := ParseConfig([]byte(withGPU(goodGPU)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, c.GPUs); d != "" {
		t.Error(d)
	}
	most := strings.NewReplacer(`"gpus": 8`, `"gpus": 32`, `"550.90.07"`, `"`+strings.Repeat("1", 64)+`"`, `"/usr/share/rims/b.xml"`, strings.Repeat(`"/r",`, 62)+`"/`+strings.Repeat("a", 4095)+`"`,
		`"attest-minutes": 60`, `"attest-minutes": 1440, "load-minutes": 1440`).Replace(goodGPU)
	if c, err = ParseConfig([]byte(withGPU(most))); err != nil || c.GPUs.Count != 32 || len(c.GPUs.RIMs) != 64 || c.GPUs.Attest != 24*time.Hour || c.GPUs.LoadTime != 24*time.Hour {
		t.Errorf("the most that may be: %v, %+v", err, c)
	}
	more := strings.Replace(strings.Replace(goodGPU, `"switches": 4,`, `"load-minutes": 2, "ocsp": "http://10.0.2.2:80/o",`, 1), `, {"family": "ls10", "vbios": "96.10.55.00.01"}`, "", 1)
	want.Switches, want.Accept, want.LoadTime, want.OCSP = 0, want.Accept[:1], 2*time.Minute, "http://10.0.2.2:80/o"
	if c, err = ParseConfig([]byte(withGPU(more))); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, c.GPUs); d != "" {
		t.Error(d)
	}
}

func TestGPUConfigRefuses(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`"helper": "/usr/lib/tally/gpu-helper", `, ``, `no key "gpu.helper"`},
		{`/usr/lib/tally`, `usr`, "gpu.helper"},
		{`/usr/lib/tally`, `/usr/../lib`, "gpu.helper"},
		{`"gpus": 8, `, ``, `no key "gpu.gpus"`},
		{`"gpus": 8`, `"gpus": 0`, "gpu.gpus: want a whole number from 1 to 32"},
		{`"gpus": 8`, `"gpus": 33`, "gpu.gpus"},
		{`"switches": 4`, `"switches": "4"`, "gpu.switches"},
		{`"accept"`, `"developer-tools": true, "accept"`, `unknown key "gpu.developer-tools"`},
		{`"hopper"`, `"turing"`, "gpu.accept"},
		{`"family": "ls10"`, `"family": "hopper", "driver": "1"`, "each once"},
		{`"driver": "550.90.07", `, ``, "gpu.accept.0.driver"},
		{`"family": "ls10"`, `"family": "ls10", "driver": "1"`, "gpu.accept.1.driver"},
		{`, "vbios": "96.10.55.00.01"`, ``, `no key "gpu.accept.1.vbios"`},
		{`"96.10.55.00.01"`, `7`, "gpu.accept.1.vbios"},
		{`"96.10.55.00.01"`, `""`, "gpu.accept.1.vbios: want 1 to 64 bytes"},
		{`"550.90.07"`, `"` + strings.Repeat("1", 65) + `"`, "gpu.accept.0.driver: want 1 to 64 bytes"},
		{`"550.90.07"`, `""`, "gpu.accept.0.driver"},
		{`{"family": "ls10", "vbios": "96.10.55.00.01"}`, `7`, "gpu.accept.1.want a JSON object"},
		{`"ppcie"`, `"off"`, "gpu.modes"},
		{`["ppcie", "unstated"]`, `[]`, "gpu.modes"},
		{`"unstated"`, `"ppcie"`, "gpu.modes"},
		{`["/usr/share/rims/a.xml", "/usr/share/rims/b.xml"]`, `[]`, "gpu.rims"},
		{`["/usr/share/rims/a.xml"`, `[` + strings.Repeat(`"/r",`, 64) + `"/r"`, "gpu.rims: want 1 to 64"},
		{`"/usr/share/rims/a.xml"`, `"a.xml"`, "gpu.rims"},
		{`"/usr/share/rims/a.xml"`, `"/"`, "gpu.rims"},
		{`"/usr/share/rims/a.xml"`, `"/a\u0000b"`, "gpu.rims"},
		{`"/usr/share/rims/a.xml"`, `"/` + strings.Repeat("a", 4096) + `"`, "gpu.rims"},
		{`, "engine-memory-mib": 1024`, ``, `no key "gpu.engine-memory-mib"`},
		{`1024`, `0`, "gpu.engine-memory-mib"},
		{`60`, `1441`, "gpu.attest-minutes"},
		{`60`, `60, "ocsp": "https://ocsp.example/"`, "gpu.ocsp"},
	} {
		text := withGPU(strings.Replace(goodGPU, c.old, c.new, 1))
		if c, err := ParseConfig([]byte(text)); text == withGPU(goodGPU) || err == nil {
			t.Errorf("%s: %+v, no error", text, c)
		} else if !strings.Contains(err.Error(), "gpu") {
			t.Errorf("%v", err)
		}
		if _, err := ParseConfig([]byte(text)); err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s -> %s: %v, want %q", c.old, c.new, err, c.want)
		}
	}
	alone := strings.Replace(goodConfig, `"network"`, `"gpu": `+goodGPU+`, "network"`, 1)
	if _, err := ParseConfig([]byte(alone)); err == nil || !strings.Contains(err.Error(), "engine") {
		t.Errorf("GPUs without an engine: %v", err)
	}
}
