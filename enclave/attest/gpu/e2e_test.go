package gpu_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave"
	policy "tally/enclave/appraise"
	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
	"tally/enclave/attest/gpu/gputest"
	"tally/enclave/attesttest"
	"tally/enclave/channel"
	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/enclave/infer/infertest"
	"tally/measure"
)

// A fleet is an enclave on fake SNP hardware with two fake GPUs and a switch, an engine that is said to compute on them, and a
// client that knows what all of it should be.
type fleet struct {
	vendor  *gputest.Vendor
	gate    *gpu.Gate
	machine *machine
	options gpu.Options
	service *gpu.Service
	engine  *infertest.Engine
	addr    string
	config  client.Config

	mu   sync.Mutex
	ocsp [][]byte // the host's
}

// newFleet starts one; change may spoil it before.
func newFleet(t *testing.T, change func(f *fleet)) *fleet {
	t.Helper()
	at := time.Now()
	v, err := gputest.New(at)
	fatal(t, err)
	f := &fleet{vendor: v, machine: &machine{state: appraise.DriverState{ConfidentialCompute: true, GPUs: 2, Switches: 1}}}
	p := appraise.Policy{Floors: map[appraise.Arch]appraise.Floor{appraise.Hopper: {Driver: "550", VBIOS: "96"}, appraise.LS10: {VBIOS: "96"}},
		Modes: []appraise.Mode{appraise.ModeUnstated}, MinGPUs: 2, MinSwitches: 1}
	f.devices(t)
	for i, r := range []struct {
		arch    appraise.Arch
		version string
	}{{appraise.Hopper, "550.90.07"}, {appraise.Hopper, "96.00.5E.00.01"}, {appraise.LS10, "96.10.55.00.01"}} {
		text, err := v.RIM(r.arch, r.version, i, i+10)
		fatal(t, err)
		f.options.RIMs = append(f.options.RIMs, text)
	}
	rims, err := appraise.ParseRIMs(f.options.RIMs...)
	fatal(t, err)
	for _, r := range rims {
		p.RIMs = append(p.RIMs, r.SHA256)
	}
	inside := p
	inside.NoOCSP = true
	f.gate = &gpu.Gate{Source: f.machine, Verify: appraise.Input{Roots: v.Roots(), RIMs: rims, Policy: inside}, GPUs: 2, Switches: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	f.client(t, p)
	if change != nil {
		change(f)
	}
	f.serve(t)
	return f
}

// devices makes the GPUs and the switch, and what the vendor says of their certificates now.
func (f *fleet) devices(t *testing.T) {
	t.Helper()
	for _, arch := range []appraise.Arch{appraise.Hopper, appraise.Hopper, appraise.LS10} {
		driver, vbios := "550.90.07", "96.00.5E.00.01"
		if arch.Switch() {
			driver, vbios = "", "96.10.55.00.01"
		}
		d, err := f.vendor.Device(arch, driver, vbios)
		fatal(t, err)
		f.machine.devices = append(f.machine.devices, d)
		all, err := f.vendor.OCSP(d, gputest.Good, f.vendor.Now)
		fatal(t, err)
		f.ocsp = append(f.ocsp, all...)
	}
	gputest.Connect(f.machine.devices...)
}

func (f *fleet) client(t *testing.T, p appraise.Policy) {
	t.Helper()
	hardware, err := amd()
	fatal(t, err)
	roots := f.vendor.Roots()
	p.OCSPMaxAge = time.Hour
	f.config = client.Config{Authority: "default", Rand: rand.Reader, Now: time.Now,
		Reference: &measure.ReferenceValues{Schema: measure.Schema, Name: "gpu", Version: "1", Values: []measure.Value{{
			Platform: measure.Platform{Name: "q", TEE: "snp"}, Register: "launch_digest", Digest: slices.Clone(hardware.Fields.Measurement[:]),
			Covers: []measure.Part{measure.PartFirmware, measure.PartKernel, measure.PartInitrd, measure.PartCmdline, measure.PartRoot}}}},
		Policy: policy.Policy{Platforms: []string{"snp"}, Freshness: policy.FreshSession, GPU: &policy.GPUs{Policy: p, Roots: &roots}, SNP: &policy.SNP{
			TCB: map[string]policy.SNPTCB{"Milan": {BootLoader: 4, SNP: 24, Microcode: 219}}, Firmware: [2]uint8{1, 55}, Signers: []string{"vcek"}, AllowSMT: true,
			IgnoreCRL: true, Chips: []string{policy.Any}, Roots: hardware.Roots()}}}
}

// amd is fake SNP hardware, made once: its RSA keys are slow.
var amd = sync.OnceValues(func() (*attesttest.AMD, error) { return attesttest.NewAMD(time.Now().Add(-time.Hour)) })

func (f *fleet) serve(t *testing.T) {
	t.Helper()
	f.engine = infertest.Start(t)
	engine, err := infer.New(infer.Options{Socket: f.engine.Socket, Admit: func() error { return f.service.Admit() }}, time.Now)
	fatal(t, err)
	f.options.Gate, f.options.Engine, f.options.LeastMemory, f.options.LoadTime = f.gate, engine, 1<<20, 10*time.Second
	f.options.Owns = func(engine, pid int) bool { return pid == engine }
	f.options.OCSP = func(context.Context) ([][]byte, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.ocsp, nil
	}
	f.service, err = gpu.NewService(f.options)
	fatal(t, err)
	memory := uint64(1 << 20)
	f.machine.usage = gpu.Usage{Processes: []gpu.Process{{PID: 41, Memory: &memory}}, Used: []uint64{memory, 0}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // what guest.RunEngine does
		for f.service.Before(ctx) == nil {
			ended := make(chan struct{})
			f.service.Started(41, sync.OnceFunc(func() { close(ended) }))
			select {
			case <-ended:
				f.service.Ended()
			case <-ctx.Done():
				return
			}
		}
	}()
	hardware, err := amd()
	fatal(t, err)
	done := make(chan error, 1)
	go func() {
		done <- enclave.Serve(ctx, ln, hardware, engine, enclave.Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler), GPUs: f.service, SessionWindow: time.Millisecond})
	}()
	f.addr = ln.Addr().String()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (f *fleet) dial(t *testing.T) (*client.Session, error) {
	t.Helper()
	s, err := client.Dial(t.Context(), new(net.Dialer), f.addr, f.config)
	if err == nil {
		t.Cleanup(func() { s.Close(context.Background()) })
	}
	return s, err
}

// TestClientSeesTheGPUs: key evidence by (fake) SNP hardware binds the GPUs' evidence, the enclave ships it in the session, and a
// client accepts it before anything is said.
func TestClientSeesTheGPUs(t *testing.T) {
	f := newFleet(t, nil)
	s, err := f.dial(t)
	fatal(t, err)
	seen := map[string]policy.Status{}
	for _, c := range s.Result().Checks {
		seen[c.Name] = c.Status
	}
	for _, name := range []string{"measurement", "session signature", "gpu", "gpu 0 nonce", "gpu 1 rim-driver", "gpu 2 ocsp"} {
		if seen[name] != policy.OK {
			t.Errorf("check %q is %q", name, seen[name])
		}
	}
	if in := s.Evidence(); in.GPU == nil || in.GPU.Missing != "" {
		t.Error("the evidence of the GPUs is not kept")
	} else if r, err := policy.Appraise(in, f.config.Policy); err != nil || !r.Accepted { // as tally verify does, later
		t.Errorf("the same evidence again: %v", err)
	}
	tr := &client.Transport{Now: time.Now, Open: func(context.Context) (*client.Session, error) { return s, nil }}
	resp, err := (&http.Client{Transport: tr}).Post("http://x/v1/completions", "application/json", strings.NewReader(`{"prompt":"hello"}`))
	fatal(t, err)
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	if err != nil || !strings.Contains(b.String(), "hello") {
		t.Errorf("%s, %v", b.String(), err)
	}
	resp.Body.Close()
}

// TestClientRefusesTheGPUs: each way in which the GPUs are not what the policy wants.
func TestClientRefusesTheGPUs(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, f *fleet)
		words  string
	}{
		"stale OCSP": {func(t *testing.T, f *fleet) {
			f.ocsp = nil
			for _, d := range f.machine.devices {
				all, err := f.vendor.OCSP(d, gputest.Good, f.vendor.Now.Add(-2*time.Hour))
				fatal(t, err)
				f.ocsp = append(f.ocsp, all...)
			}
		}, "ocsp-stale"},
		"no OCSP": {func(_ *testing.T, f *fleet) { f.ocsp = nil }, "ocsp:"},
		"another RIM than the release's": {func(_ *testing.T, f *fleet) {
			f.config.Policy.GPU.RIMs[0][0]++
		}, "rim-unpinned"},
		"a GPU fewer": {func(_ *testing.T, f *fleet) {
			f.machine.devices = f.machine.devices[1:]
			gputest.Connect(f.machine.devices...)
			f.machine.state.GPUs, f.gate.GPUs, f.gate.Verify.Policy.MinGPUs = 1, 1, 1 // an image that asks for one
		}, "no-devices"},
		"the vendor's roots": {func(_ *testing.T, f *fleet) { f.config.Policy.GPU.Roots = nil }, "chain"},
		"no section gpu":     {func(_ *testing.T, f *fleet) { f.config.Policy.GPU = nil }, "section gpu is missing"},
		"driver's floor": {func(_ *testing.T, f *fleet) {
			f.config.Policy.GPU.Floors = map[appraise.Arch]appraise.Floor{appraise.Hopper: {Driver: "551", VBIOS: "96"}, appraise.LS10: {VBIOS: "96"}}
		}, "rollback"},
	} {
		f := newFleet(t, func(f *fleet) {
			f.config.Policy.GPU.RIMs = slices.Clone(f.config.Policy.GPU.RIMs)
			c.change(t, f)
		})
		_, err := f.dial(t)
		var refused *policy.Error
		if !errors.As(err, &refused) || refused.Result.Reason != policy.BadGPU || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want %q", name, err, c.words)
		}
		if all, _ := f.engine.Requests(); len(all) != 1 { // the gate's own probe
			t.Errorf("%s: the engine got %d requests", name, len(all))
		}
	}
}

// TestClientRefusesAnotherSet: a shipment that is not the key's, and none at all, whoever is at fault.
func TestClientRefusesAnotherSet(t *testing.T) {
	one, two := newFleet(t, nil), newFleet(t, nil)
	s, err := two.dial(t)
	fatal(t, err)
	document := s.Evidence().GPU.Document
	s, err = one.dial(t)
	fatal(t, err)
	in := s.Evidence()
	for name, c := range map[string]struct {
		gpu  *policy.GPU
		want string
	}{
		"another key's": {&policy.GPU{Document: document}, "binding"},
		"none":          {nil, "none, want evidence of its GPUs"},
		"not given":     {&policy.GPU{Missing: "the enclave has no GPU evidence"}, "has no GPU evidence"},
	} {
		in.GPU = c.gpu
		if r, err := policy.Appraise(in, one.config.Policy); err == nil || r.Reason != policy.BadGPU || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// An enclave without GPUs, to a client that wants some.
	hardware, err := amd()
	fatal(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	go enclave.Serve(t.Context(), ln, hardware, enclave.Echo{}, enclave.Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	one.addr = ln.Addr().String()
	var refused *policy.Error
	if _, err := one.dial(t); !errors.As(err, &refused) || refused.Result.Reason != policy.BadGPU || !strings.Contains(err.Error(), "without") {
		t.Errorf("no GPUs: %v", err)
	}
}

// TestClientLearnsOfALoss: the word is "the enclave lost a GPU", in the middle of an answer and at the next session.
func TestClientLearnsOfALoss(t *testing.T) {
	f := newFleet(t, nil)
	s, err := f.dial(t)
	fatal(t, err)
	ended := make(chan error, 1)
	tr := &client.Transport{Now: time.Now, Open: func(context.Context) (*client.Session, error) { return s, nil }}
	go func() {
		resp, err := (&http.Client{Transport: tr}).Post("http://x/v1/completions", "application/json", strings.NewReader(`{"prompt":"endless","stream":true}`))
		if err == nil {
			_, err = new(bytes.Buffer).ReadFrom(resp.Body)
		}
		ended <- err
	}()
	for all, _ := f.engine.Requests(); len(all) < 2; all, _ = f.engine.Requests() {
		time.Sleep(time.Millisecond)
	}
	f.machine.mu.Lock()
	f.machine.fail = errors.New("GPU 1 fell off the bus")
	f.machine.mu.Unlock()
	f.service.Ended() // which is looked into
	if err := <-ended; !errors.Is(err, client.ErrGPULost) || !strings.Contains(err.Error(), "the enclave lost a GPU") {
		t.Errorf("in the middle of an answer: %v", err)
	}
	_, err = f.dial(t)
	var refused *channel.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "it lost a GPU") {
		t.Errorf("a new session: %v", err)
	}
}
