package guest

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// GPUs says that the engine computes on GPUs, and which are good for that. It is the section gpu of the configuration:
//
//	"gpu": {
//	  "helper": "/usr/lib/tally/gpu-helper",   the program that talks to the driver (tally/cmd/gpu-helper)
//	  "gpus": 8,                               how many there must be, neither more nor fewer
//	  "switches": 4,                           optional: NVSwitches likewise
//	  "accept": [                              families, and the oldest software of each, as in a policy
//	    {"family": "hopper", "driver": "550.90.07", "vbios": "96.00.5E.00.01"},
//	    {"family": "ls10", "vbios": "96.10.55.00.01"}
//	  ],
//	  "modes": ["ppcie"],                      of confidential computing: spt, mpt, ppcie; unstated
//	  "rims": ["/usr/share/tally/rims/NV_GPU_DRIVER_GH100_550.90.07.xml"],
//	                                           manifests, as files in the verified root; clients get them with the evidence
//	  "engine-memory-mib": 16384,              what the engine must hold on the GPUs at least: the size of the weights, say
//	  "load-minutes": 15,                      optional: how long the engine may take to load them; 15 if left out
//	  "attest-minutes": 60,                    how often the GPUs are attested again
//	  "ocsp": "http://10.0.2.2:8080/ocsp"      optional: where OCSP responses are fetched for clients, a JSON array of DER in
//	                                           base64; what comes is passed on and not judged here
//	}
//
// There is no word for confidential computing off or developer tools on: such GPUs never serve. Everything stands in the
// verified root, so a client that verified the release knows what its enclave insists on.
type GPUs struct {
	Helper           string
	Count, Switches  int
	Accept           []GPUFloor
	Modes            []string
	RIMs             []string
	EngineMemoryMiB  int64
	LoadTime, Attest time.Duration
	OCSP             string
}

// A GPUFloor is the oldest software of a family.
type GPUFloor struct{ Family, Driver, VBIOS string }

const (
	maxGPUs      = 32
	maxManifests = 64
	maxMinutes   = 24 * 60

	defaultLoad = 15 * time.Minute
)

func parseGPUs(raw json.RawMessage) (*GPUs, error) {
	o, err := object(raw, "gpu.", []string{"helper", "gpus", "accept", "modes", "rims", "engine-memory-mib", "attest-minutes"}, []string{"switches", "load-minutes", "ocsp"})
	if err != nil {
		return nil, err
	}
	g := new(GPUs)
	if g.Helper, err = text(o, "helper"); err != nil {
		return nil, err
	}
	if !cleanFile(g.Helper) {
		return nil, fmt.Errorf("gpu.helper %.80q: want a clean absolute path", g.Helper)
	}
	if err := g.numbers(o); err != nil {
		return nil, err
	}
	if g.Accept, err = parseFloors(o["accept"]); err != nil {
		return nil, err
	}
	if json.Unmarshal(o["modes"], &g.Modes) != nil || !distinctWords(g.Modes, "spt", "mpt", "ppcie", "unstated") {
		return nil, fmt.Errorf("gpu.modes: want some of spt, mpt, ppcie and unstated, each once")
	}
	if json.Unmarshal(o["rims"], &g.RIMs) != nil || len(g.RIMs) == 0 || len(g.RIMs) > maxManifests || !all(g.RIMs, cleanFile) {
		return nil, fmt.Errorf("gpu.rims: want 1 to %d clean absolute paths", maxManifests)
	}
	if _, ok := o["ocsp"]; ok {
		g.OCSP, err = hostURL(o, "gpu.", "ocsp")
	}
	return g, err
}

// numbers reads the whole numbers; object has seen to it that the required ones are there.
func (g *GPUs) numbers(o map[string]json.RawMessage) error {
	minutes := func(to *time.Duration) func(int64) {
		return func(n int64) { *to = time.Duration(n) * time.Minute }
	}
	g.LoadTime = defaultLoad
	for _, f := range []struct {
		key   string
		limit int64
		to    func(int64)
	}{
		{"gpus", maxGPUs, func(n int64) { g.Count = int(n) }},
		{"switches", maxGPUs, func(n int64) { g.Switches = int(n) }},
		{"engine-memory-mib", maxMemoryMiB, func(n int64) { g.EngineMemoryMiB = n }},
		{"load-minutes", maxMinutes, minutes(&g.LoadTime)},
		{"attest-minutes", maxMinutes, minutes(&g.Attest)},
	} {
		if raw, ok := o[f.key]; ok {
			n, err := whole(raw, "gpu."+f.key, f.limit)
			if err != nil {
				return err
			}
			f.to(n)
		}
	}
	return nil
}

// parseFloors checks all but how versions are spelled, which is the verifier's to say.
func parseFloors(raw json.RawMessage) (floors []GPUFloor, err error) {
	var entries []json.RawMessage
	if json.Unmarshal(raw, &entries) != nil || len(entries) == 0 {
		return nil, fmt.Errorf("gpu.accept: want a list of families")
	}
	var names []string
	for i, e := range entries {
		at := fmt.Sprintf("gpu.accept.%d.", i)
		o, err := object(e, at, []string{"family", "vbios"}, []string{"driver"})
		if err != nil {
			return nil, err
		}
		var f GPUFloor
		for key, to := range map[string]*string{"family": &f.Family, "vbios": &f.VBIOS, "driver": &f.Driver} {
			if _, ok := o[key]; !ok {
				continue
			}
			if *to, err = text(o, key); err != nil || *to == "" || len(*to) > 64 {
				return nil, fmt.Errorf("%s%s: want 1 to 64 bytes of text", at, key)
			}
		}
		if (f.Driver == "") != (f.Family == "ls10") {
			return nil, fmt.Errorf("%sdriver: want one for GPUs and none for switches", at)
		}
		floors, names = append(floors, f), append(names, f.Family)
	}
	if !distinctWords(names, "hopper", "blackwell", "ls10") {
		return nil, fmt.Errorf("gpu.accept: want families hopper, blackwell and ls10, each once at most")
	}
	return floors, nil
}

func cleanFile(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && p != "/" && len(p) <= maxWord && !strings.ContainsRune(p, 0)
}

// distinctWords wants at least one word, each known and none twice.
func distinctWords(list []string, known ...string) bool {
	for i, w := range list {
		if !slices.Contains(known, w) || slices.Contains(list[:i], w) {
			return false
		}
	}
	return len(list) > 0
}

func all(list []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !ok(s) })
}
