package e2e

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tally/internal/guest"
	"tally/mkimage/spec"
)

// TestVLLMIsTheSameMachine: examples/gpu has two engines, each with its spec and configuration, and one machine. What is not about the
// engine must not drift apart.
func TestVLLMIsTheSameMachine(t *testing.T) {
	specs, configs := map[string]*spec.Spec{}, map[string]*guest.Config{}
	for engine, names := range map[string][2]string{"llama": {"image.yaml", "enclave.json"}, "vllm": {"image-vllm.yaml", "enclave-vllm.json"}} {
		s, _, err := spec.Load("../../examples/gpu/" + names[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := guest.LoadConfig("../../examples/gpu/" + names[1])
		if err != nil {
			t.Fatal(err)
		}
		if s.Config == nil || s.Config.Path != names[1] {
			t.Errorf("%s: configuration %+v, want %s", names[0], s.Config, names[1])
		}
		// The engine's own: where it comes from, over whose files the others lie, and how it is started.
		s.Name, s.Config, s.Suites = "", nil, nil
		s.Root = slices.DeleteFunc(s.Root, func(r spec.Source) bool { return r.OCI != nil || r.Debian != nil || r.File != nil })
		for _, r := range s.Root {
			if r.Dir != nil {
				r.Dir.Replace = false
			}
			if r.Go != nil {
				r.Go.Replace = false
			}
		}
		s.Steps = slices.DeleteFunc(s.Steps, func(p spec.Step) bool { return p.Name == "engine" || p.Name == "driver" })
		c.Engine = nil
		specs[engine], configs[engine] = s, c
	}
	if len(specs["vllm"].Root) != 3 || len(specs["vllm"].Steps) != 2 || specs["vllm"].Platforms == nil || configs["vllm"].GPUs == nil {
		t.Errorf("%d sources and %d steps in common, platforms %s, GPUs %+v: nothing is compared", len(specs["vllm"].Root), len(specs["vllm"].Steps), specs["vllm"].Platforms, configs["vllm"].GPUs)
	}
	if d := cmp.Diff(specs["llama"], specs["vllm"]); d != "" {
		t.Errorf("specs: %s", d)
	}
	// As JSON: a configuration has fields that are not compared otherwise.
	var texts []string
	for _, engine := range []string{"llama", "vllm"} {
		b, err := json.MarshalIndent(configs[engine], "", " ")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	if d := cmp.Diff(texts[0], texts[1]); d != "" {
		t.Errorf("configurations: %s", d)
	}
}
