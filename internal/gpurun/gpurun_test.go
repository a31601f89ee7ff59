package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/enclave/attest/gpu"
)

// TestMain lets the test binary be the engine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine" {
		main()
		return
	}
	if i := slices.Index(os.Args, "--host"); i > 0 {
		serveFake(os.Args[i+1])
	}
	os.Exit(m.Run())
}

// serveFake answers like llama.cpp's server: words, then how many.
func serveFake(socket string) {
	fmt.Println(os.Getenv("FAKE_LOG"))
	if file := os.Getenv("FAKE_PID"); file != "" {
		if os.WriteFile(file, fmt.Append(nil, os.Getpid()), 0o600) != nil {
			os.Exit(1)
		}
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		os.Exit(1)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, _ *http.Request) {
		if file := os.Getenv("FAKE_ASKED"); file != "" {
			_ = os.WriteFile(file, nil, 0o600)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 8 {
			fmt.Fprintf(w, "data: {\"choices\":[{\"text\":\"w%d\"}]}\n\n", i)
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, "data: {\"choices\":[],\"usage\":{\"completion_tokens\":8}}\n\ndata: [DONE]\n\n")
	})
	_ = http.Serve(ln, mux)
	os.Exit(1)
}

// TestShapes: as many parameters as the models' pages state. Norms, in F32, count two halves.
func TestShapes(t *testing.T) {
	for name, want := range map[string]int64{"tinyllama-1.1b": 1_100_048_384, "llama-3.1-8b": 8_030_261_248} {
		s := shapes[name]
		var n int64
		for _, x := range s.tensors() {
			n += x.bytes() / 2
			if x.norm {
				n -= x.bytes() / 4
			}
		}
		if n != want {
			t.Errorf("%s: %d parameters, want %d", name, n, want)
		}
		if input := s.size() - s.offloaded(); input != 2*int64(s.Vocab*s.Width) {
			t.Errorf("%s: %d bytes stay with the processor, want %d", name, input, 2*s.Vocab*s.Width)
		}
	}
}

// TestWeights: the same bytes each time, of the size that the header says. That llama.cpp reads them, scripts/gpu shows.
func TestWeights(t *testing.T) {
	var files [2][]byte
	for i := range files {
		path := filepath.Join(t.TempDir(), "w.gguf")
		if err := command(t.Context(), []string{"weights", "-shape", "tiny", "-o", path}); err != nil {
			t.Fatal(err)
		}
		var err error
		if files[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	s := shapes["tiny"]
	head := int64(len(s.header()))
	size := head + pad(head)
	for _, x := range s.tensors() {
		size += x.bytes() + pad(x.bytes())
	}
	b := files[0]
	if !bytes.Equal(b, files[1]) || int64(len(b)) != size || string(b[:4]) != "GGUF" || binary.LittleEndian.Uint32(b[4:]) != 3 || binary.LittleEndian.Uint64(b[8:]) != uint64(len(s.tensors())) {
		t.Errorf("%d bytes, want %d; equal %v", len(b), size, bytes.Equal(b, files[1]))
	}
	tokens, kinds := s.vocabulary()
	seen := map[string]bool{}
	for _, w := range tokens {
		seen[w] = true
	}
	if len(tokens) != s.Vocab || len(kinds) != s.Vocab || len(seen) != s.Vocab {
		t.Errorf("%d tokens, %d of them different, want %d", len(tokens), len(seen), s.Vocab)
	}
	first := binary.LittleEndian.Uint16(b[head+pad(head):])
	if e := first >> 10 & 31; e != 8 && e != 9 {
		t.Errorf("first weight %#04x: exponent %d, want 8 or 9", first, e)
	}
}

// fakeSMI puts a nvidia-smi on the PATH that names one GPU, on which the process computes whose number stands in a file. Without memory it is one in
// a container: it lists no process, and has more memory in use once there is that process.
func fakeSMI(t *testing.T, memory string) (pidFile string) {
	t.Helper()
	dir := t.TempDir()
	pidFile = filepath.Join(dir, "pid")
	apps, used := "[ ! -s "+pidFile+" ] || echo \"$(cat "+pidFile+"), "+memory+"\"", "echo 100"
	if memory == "" {
		apps, used = ":", "[ -s "+pidFile+" ] && echo 110 || echo 100"
	}
	script := "#!/bin/sh\ncase $1 in\n*name*) echo 'NVIDIA H100 80GB HBM3, 580.1, 9.0, 81559' ;;\n*compute-apps*) " + apps + " ;;\n*memory.used*) " + used + " ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return pidFile
}

// fakeHelper is a helper that knows the process whose number stands in a file, and no ready state.
func fakeHelper(t *testing.T, pidFile string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "helper")
	const schema = `{"schema": "` + gpu.HelperSchema + `", `
	script := "#!/bin/sh\ncase $1 in\ncollect) echo '" + schema + `"state": {"confidential_compute": false, "developer_tools": true, "gpus": 1, "switches": 0, "switches_unlocked": 0}, "devices": []}` + "' ;;\nusage) echo '" + schema +
		`"processes": [{"gpu": 0, "pid": '$(cat ` + pidFile + `)', "memory": 6291456}], "used": [7340032]}` + "' ;;\n*) exit 1 ;;\nesac\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAskGate: a helper that cannot ask, and an engine that it does not list, are said in the report.
func TestAskGate(t *testing.T) {
	if got := askGate(t.Context(), "/bin/false", 1, time.Now); !strings.Contains(got, "0 GPUs") || !strings.Contains(got, "gate refuses them: GPU evidence: GPU helper: collect: exit status 1") {
		t.Error(got)
	}
	pid := filepath.Join(t.TempDir(), "pid")
	if err := os.WriteFile(pid, []byte("41"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := helperProof(t.Context(), fakeHelper(t, pid), 42, 1); !strings.Contains(got, "refused: none of the 1 processes") {
		t.Error(got)
	}
	if got := helperProof(t.Context(), fakeHelper(t, pid), 41, 6<<20+1); !strings.Contains(got, "refused: the engine holds 6 MiB") {
		t.Error(got)
	}
}

// TestRun is the whole line with an engine and a nvidia-smi that are none: what it writes is no result.
func TestRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	doc, model := filepath.Join(dir, "doc.md"), filepath.Join(dir, "w.gguf")
	page := "before\n" + beginMark + "old\n" + endMark + "after\n"
	args := func(more ...string) []string {
		return append([]string{"run", "-server", self, "-model", model, "-doc", doc, "-streams", "3", "-rounds", "2", "-tokens", "8", "-load", "10s"}, more...)
	}
	put := func() {
		t.Helper()
		if err := os.WriteFile(doc, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put()
	t.Setenv("FAKE_LOG", "load_tensors: offloaded 5/5 layers to GPU")
	if err := command(t.Context(), args("-backend", "cpu")); err != nil {
		t.Fatal(err)
	}
	if err := command(t.Context(), args("-backend", "paced", "-step", "1ms")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(doc); err != nil || string(b) != page {
		t.Errorf("a run without a GPU changed the page: %s, %v", b, err)
	}
	t.Setenv("FAKE_PID", fakeSMI(t, "6"))
	if err := command(t.Context(), args("-helper", fakeHelper(t, os.Getenv("FAKE_PID")))); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(doc)
	for _, want := range []string{"before\n" + beginMark, "NVIDIA H100 80GB HBM3, 81559 MiB, compute capability 9.0, driver 580.1, " + time.Now().UTC().Format("2006-"), "The driver lists the engine's process",
		"1 GPUs, confidential computing off, developer tools on. The enclave's gate refuses them: GPUs refused: confidential computing is off. ", "by that helper: it is on the GPU",
		"offloaded 5/5", "| engine alone ", "| channel, on its grid of 50 ms ", endMark + "after\n"} {
		if err != nil || !strings.Contains(string(b), want) || strings.Contains(string(b), "old") {
			t.Errorf("no %q in %s, %v", want, b, err)
		}
	}
	put()
	t.Setenv("FAKE_PID", fakeSMI(t, ""))
	if err := command(t.Context(), args()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(doc); err != nil || !strings.Contains(string(b), "rose by 10 MiB with the engine; the engine says that it offloaded 5/5 layers") {
		t.Errorf("in a container: %s, %v", b, err)
	}
	for name, c := range map[string]struct{ memory, log, want string }{
		"little memory":    {"5", "", "answers from the CPU"},
		"half of it":       {"6", "offloaded 3/5 layers to GPU", "offloaded 3/5"},
		"no word of it":    {"6", "", `the engine says: "", want all layers`},
		"no number at all": {"x y, z", "", "want its number and memory"},
	} {
		put()
		t.Setenv("FAKE_PID", fakeSMI(t, c.memory))
		t.Setenv("FAKE_LOG", c.log)
		asked := filepath.Join(t.TempDir(), "asked")
		t.Setenv("FAKE_ASKED", asked)
		if err := command(t.Context(), args()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(asked); err == nil {
			t.Errorf("%s: it was measured all the same", name)
		}
		if b, err := os.ReadFile(doc); err != nil || string(b) != page {
			t.Errorf("%s: the page was changed: %s, %v", name, b, err)
		}
	}
	fakeSMI(t, "6") // whose file nobody writes: no process at all, and no more memory in use than before
	t.Setenv("FAKE_PID", "")
	if err := command(t.Context(), args()); err == nil || !strings.Contains(err.Error(), "none of the 0 processes") {
		t.Errorf("an engine that the driver does not know: %v", err)
	}
	if err := command(t.Context(), args("-server", "/bin/false")); err == nil || !strings.Contains(err.Error(), "the engine ended") {
		t.Errorf("an engine that ends: %v", err)
	}
}

func TestOnGPU(t *testing.T) {
	rose, err := onGPU(&gpu.Usage{Used: []uint64{30 << 20}}, 1, 10<<20, 20<<20)
	if err != nil || !strings.Contains(rose, "rose by 20 MiB") {
		t.Errorf("a container: %q, %v", rose, err)
	}
	const host = 1<<22 + 1 // above the largest number that Linux gives
	if _, err := onGPU(&gpu.Usage{Used: []uint64{30 << 20}, Processes: []gpu.Process{{PID: host}}}, host+1, 10<<20, 20<<20); err != nil {
		t.Errorf("a container whose driver has the host's numbers: %v", err)
	}
	for name, c := range map[string]struct {
		before    uint64
		processes []gpu.Process
	}{"another process": {10 << 20, []gpu.Process{{PID: host}, {PID: os.Getpid()}}}, "too little more": {10<<20 + 1, nil}} {
		if _, err := onGPU(&gpu.Usage{Used: []uint64{30 << 20}, Processes: c.processes}, host+1, c.before, 20<<20); err == nil || !strings.Contains(err.Error(), "answers from the CPU") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCommandRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {"run"}, {"weights", "-shape", "gpt-5", "-o", "x"}, {"serve", "-model", "x"}, {"run", "-model", "x", "-backend", "tpu"}, {"run", "-model", "x", "-rounds", "0"}, {"run", "-model", "x", "y"}, {"run", "-model", "x", "-step", "0"}, {"engine", "-socket", t.TempDir() + "/no/s"}} {
		if err := command(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if _, err := replaceSection([]byte(endMark+beginMark), "x"); err == nil {
		t.Error("marks in the wrong order: no error")
	}
}

// TestScriptSkips: without a CUDA device `make gpu` says so, and nothing else happens.
func TestScriptSkips(t *testing.T) {
	if _, err := exec.LookPath("nvidia-smi"); err == nil {
		t.Skip("SKIPPED: this machine has nvidia-smi")
	}
	out, err := exec.Command("../../scripts/gpu").CombinedOutput()
	if err != nil || string(out) != "SKIPPED: no CUDA device: make gpu was not run on hardware here\n" {
		t.Errorf("%v\n%s", err, out)
	}
	cmd := exec.Command("../../scripts/gpu")
	cmd.Env = append(os.Environ(), "GPU=tpu")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "want cuda or cpu") {
		t.Errorf("%v\n%s", err, out)
	}
}
