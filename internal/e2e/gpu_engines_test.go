package e2e

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/guest"
	"tally/mkimage/spec"
)

// TestVLLMIsTheSameMachine: examples/gpu has two engines, each a variant of one spec with a configuration of its own. What is not
// about the engine must not drift apart.
func TestVLLMIsTheSameMachine(t *testing.T) {
	engines, configs, shared := map[string][]string{}, map[string]*guest.Config{}, map[string][]spec.Source{}
	for _, variant := range []string{"llama", "vllm"} {
		s, _, err := spec.Load("../../examples/gpu/image.yaml", variant)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Root {
			switch {
			case r.Debian != nil:
				engines[variant] = append(engines[variant], "debian")
			case r.OCI != nil:
				_, digest := r.OCI.Reference()
				engines[variant] = append(engines[variant], digest.String())
			case r.Dir != nil:
				r.Dir.Replace = false
			case r.Go != nil:
				r.Go.Replace = false
			}
			if r.Dir != nil || r.Go != nil || r.Model != nil { // the same, but that they lie over a container's files in one
				shared[variant] = append(shared[variant], r)
			}
		}
		if configs[variant], err = guest.LoadConfig("../../examples/gpu/" + s.Config.Path); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]string{"llama": {"debian"}, "vllm": {"sha256:607442e407b0fea97f8a132a78b787c121a996dd4de181fa08e8da06e71ec2db"}}
	if d := cmp.Diff(want, engines); d != "" {
		t.Errorf("where the engines come from: %s", d)
	}
	if d := cmp.Diff(shared["llama"], shared["vllm"]); d != "" || len(shared["llama"]) != 3 {
		t.Errorf("%d sources in common: %s", len(shared["llama"]), d)
	}
	// As JSON: a configuration has fields that are not compared otherwise.
	var texts []string
	for _, c := range []*guest.Config{configs["llama"], configs["vllm"]} {
		if c.Engine == nil || c.GPUs == nil {
			t.Fatalf("engine %+v, GPUs %+v: nothing is compared", c.Engine, c.GPUs)
		}
		c.Engine = nil
		b, err := json.MarshalIndent(c, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	if d := cmp.Diff(texts[0], texts[1]); d != "" {
		t.Errorf("configurations: %s", d)
	}
}
