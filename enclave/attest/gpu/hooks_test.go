package gpu_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	appraise "tally/enclave/appraise/gpu"
	"tally/enclave/attest/gpu"
)

// hooked is a machine at which something happens while it is asked.
type hooked struct {
	*machine
	onUsage func()
	onReady func(bool) error
}

func (h *hooked) Usage(ctx context.Context) (*gpu.Usage, error) {
	if h.onUsage != nil {
		h.onUsage()
	}
	return h.machine.Usage(ctx)
}

func (h *hooked) SetReady(ctx context.Context, ready bool) error {
	_ = h.machine.SetReady(ctx, ready)
	if h.onReady != nil {
		return h.onReady(ready)
	}
	return nil
}

// TestEngineReplaced: what was seen of one engine admits no other that was started while the driver was asked.
func TestEngineReplaced(t *testing.T) {
	s, m, _, opt := newService(t)
	h := &hooked{machine: m}
	opt.Gate.Source = h
	begin := func() {
		t.Helper()
		m.fail = nil
		_, err := s.Attest(t.Context(), claims)
		fatal(t, err)
		s.Started(41, func() {})
	}
	for name, change := range map[string]func(){
		"ended":    func() { s.Ended() },
		"replaced": func() { s.Ended(); s.Started(77, func() {}) },
		"GPUs lost": func() { // it is killed, and was not reaped yet
			m.fail = errors.New("GPU 0 fell off the bus")
			_, _ = s.Attest(t.Context(), claims)
		},
		"GPUs lost and back": func() {
			m.fail = errors.New("GPU 0 fell off the bus")
			_, _ = s.Attest(t.Context(), claims)
			m.fail = nil
			_, err := s.Attest(t.Context(), claims)
			fatal(t, err)
		},
	} {
		begin()
		h.onUsage = change
		if err := s.Serving(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended") || s.Admit() == nil {
			t.Errorf("%s: %v, admitted %v", name, err, s.Admit() == nil)
		}
	}
	h.onUsage = nil
	begin()
	fatal(t, s.Serving(t.Context()))
	fatal(t, s.Admit())
}

// TestReadyStateRefused: GPUs that cannot be set ready serve nobody, and when they cannot be set off either both are said.
func TestReadyStateRefused(t *testing.T) {
	for _, off := range []error{nil, errors.New("off: no")} {
		g, m := newGate(t)
		g.Source = &hooked{machine: m, onReady: func(ready bool) error {
			if ready {
				return errors.New("on: no")
			}
			return off
		}}
		set, err := g.Attest(t.Context(), claims)
		if set != nil || err == nil || !strings.Contains(err.Error(), "GPU ready state: on: no") || strings.Contains(err.Error(), "off: no") != (off != nil) {
			t.Errorf("%v", err)
		}
		if !slices.Equal(m.ready, []bool{true, false}) {
			t.Errorf("ready %v, want on, then off", m.ready)
		}
	}
}

// TestNothingToWaitFor: an engine that was not started, and waits for nothing, is a failure.
func TestNothingToWaitFor(t *testing.T) {
	for name, waits := range map[string]func() bool{"never": nil, "not now": func() bool { return false }} {
		_, _, e, opt := newService(t)
		opt.Waits, e.ready = waits, errors.New("nobody listens")
		s, err := gpu.NewService(*opt)
		fatal(t, err)
		_, err = s.Attest(t.Context(), claims)
		fatal(t, err)
		if err := s.Serving(t.Context()); err == nil || errors.Is(err, enclave.ErrEngineWaits) || !strings.Contains(err.Error(), "not ready after") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestResponsesOfTheHost: a host that has no OCSP responses, or none any more, keeps nobody from serving; what it had is passed on.
func TestResponsesOfTheHost(t *testing.T) {
	shipped := func(s *gpu.Service) [][]byte {
		t.Helper()
		set, err := s.Attest(t.Context(), claims)
		fatal(t, err)
		b, err := set.Ship()
		fatal(t, err)
		ship, err := appraise.ParseShipment(b)
		fatal(t, err)
		return ship.OCSP
	}
	_, _, _, opt := newService(t)
	opt.OCSP = nil
	s, err := gpu.NewService(*opt)
	fatal(t, err)
	if all := shipped(s); len(all) != 0 {
		t.Errorf("no source: %d responses", len(all))
	}
	var fail error
	opt.OCSP = func(context.Context) ([][]byte, error) { return [][]byte{{7}}, fail }
	s, err = gpu.NewService(*opt)
	fatal(t, err)
	for _, fail = range []error{nil, errors.New("host is silent")} {
		if all := shipped(s); len(all) != 1 || all[0][0] != 7 {
			t.Errorf("%v: %v", fail, all)
		}
	}
}

// TestHelperArguments: what the helper is called with, and that its answer is one.
func TestHelperArguments(t *testing.T) {
	var got []string
	answer := ""
	h := &gpu.Helper{Path: "/h", Timeout: time.Minute, Run: func(_ context.Context, path string, args []string, out, _ io.Writer) error {
		got = append([]string{path}, args...)
		_, err := io.WriteString(out, answer)
		return err
	}}
	for ready, want := range map[bool]string{true: "[/h ready on]", false: "[/h ready off]"} {
		fatal(t, h.SetReady(t.Context(), ready))
		if fmt.Sprint(got) != want {
			t.Errorf("ready %v: %v", ready, got)
		}
	}
	answer = `{"schema": "tally.gpu-helper/v1", "processes": [], "used": []}`
	if _, err := h.Usage(t.Context()); err != nil || fmt.Sprint(got) != "[/h usage]" {
		t.Errorf("usage: %v, %v", got, err)
	}
	for _, bad := range []string{answer + answer, answer + " x", "", `{"processes": []}`, `{"schema": "tally.gpu-helper/v1", "verdict": 1}`} {
		answer, bad = bad, answer
		if u, err := h.Usage(t.Context()); err == nil {
			t.Errorf("%s: %+v", answer, u)
		}
		answer = bad
	}
	answer = `{"schema": "tally.gpu-helper/v1", "state": {"confidential_compute": true, "developer_tools": false, "gpus": 0, "switches": 0, "switches_unlocked": 0}, "devices": []}`
	c, err := h.Collect(t.Context(), [32]byte{0xab})
	if err != nil || len(c.Devices) != 0 || fmt.Sprint(got) != "[/h collect ab"+strings.Repeat("0", 62)+"]" {
		t.Errorf("%v, %v, %v", c, got, err)
	}
	for _, devices := range []string{"null", `{}`, `[{}]`, `""`} {
		answer = `{"schema": "tally.gpu-helper/v1", "devices": ` + devices + `}`
		if c, err := h.Collect(t.Context(), [32]byte{}); err == nil {
			t.Errorf("devices %s: %+v", devices, c)
		}
	}
	answer = `{"schema": "tally.gpu-helper/v1"}`
	if c, err := h.Collect(t.Context(), [32]byte{}); err == nil {
		t.Errorf("no devices: %+v", c)
	}
}

// TestHelperFields: developer tools of which nothing is said are not off, and switches of which nothing is said are not locked.
func TestHelperFields(t *testing.T) {
	const collect = `{"schema": "tally.gpu-helper/v1", "state": {"confidential_compute": true, "developer_tools": false, "gpus": 0, "switches": 0, "switches_unlocked": 0}, "devices": []}`
	const usage = `{"schema": "tally.gpu-helper/v1", "processes": [{"gpu": 0, "pid": 41, "memory": 123}, {"gpu": 0, "pid": 42}], "used": [456]}`
	answer := ""
	h := &gpu.Helper{Path: "/h", Timeout: time.Minute, Run: func(_ context.Context, _ string, _ []string, out, _ io.Writer) error {
		_, err := io.WriteString(out, answer)
		return err
	}}
	ask := map[string]func() error{
		collect: func() error { _, err := h.Collect(t.Context(), [32]byte{}); return err },
		usage:   func() error { _, err := h.Usage(t.Context()); return err },
	}
	for good, err := range ask {
		if answer = good; err() != nil {
			t.Errorf("%s: %v", good, err())
		}
	}
	for _, c := range []struct{ good, old, new string }{
		{collect, `, "developer_tools": false`, ``},
		{collect, `, "switches_unlocked": 0`, ``},
		{collect, `"confidential_compute": true, "developer_tools": false`, `"developer_tools": false, "confidential_compute": true`},
		{collect, `"developer_tools": false`, `"developer_tools": true, "developer_tools": false`},
		{collect, `"developer_tools"`, `"Developer_Tools"`},
		{collect, `, "switches": 0`, `, "switches": null`},
		{collect, `"devices": []`, `"devices": [], "devices": []`},
		{usage, `, "used": [456]`, ``},
		{usage, `"gpu": 0, "pid": 41`, `"pid": 41`},
		{usage, `{"gpu": 0, "pid": 42}`, `{"gpu": 0}`},
		{usage, `"memory": 123`, `"memory": null`},
		{usage, `[456]`, `null, "used": [456]`},
	} {
		answer = strings.Replace(c.good, c.old, c.new, 1)
		if err := ask[c.good](); answer == c.good || err == nil || !strings.Contains(err.Error(), "each of its fields once") {
			t.Errorf("%s: %v", answer, err)
		}
	}
}
