package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"time"

	"tally/enclave"
	"tally/enclave/appraise"
	"tally/enclave/attest/insecure"
	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/measure"
)

// promptRoom is how many tokens of a slot's context are left to its prompt.
const promptRoom = 128

// startEngine starts llama.cpp's server, or what keeps a pace in its place, on a UNIX socket and waits until it has loaded the model. The returned function ends
// it. Its log is written to logPath.
func startEngine(ctx context.Context, o *options, logPath string) (pid int, stop func(), err error) {
	log, err := os.Create(logPath)
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	server, args := o.Server, []string{"--model", o.Model, "--alias", "random", "--host", o.Socket, "--parallel", fmt.Sprint(o.Streams), "--ctx-size", fmt.Sprint(o.Streams * (o.Tokens + promptRoom)),
		"--no-slots", "--no-cache-prompt", "--cache-ram", "0", "--threads", fmt.Sprint(o.Threads), "--verbosity", "4"} // where the layers go
	switch o.Backend {
	case "cuda":
		// Tokens are chosen on the GPU, too, and without chance. On the processor, choosing among 128,256 for 16 streams took some
		// 10 ms of a step of 32, and rounds on an H200 then differed by up to 12 % (0.4 % so).
		args = append(args, "--gpu-layers", "999", "--backend-sampling", "--samplers", "top_k", "--top-k", "1")
	case "paced":
		if server, err = os.Executable(); err != nil {
			return 0, nil, err
		}
		args = []string{"engine", "-socket", o.Socket, "-step", o.Step.String()}
	}
	cmd := exec.CommandContext(ctx, server, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return 0, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	e, err := infer.New(infer.Options{Socket: o.Socket}, time.Now)
	if err != nil {
		return 0, nil, errors.Join(err, os.ErrInvalid)
	}
	for until := time.Now().Add(o.Load); e.Ready(ctx) != nil; time.Sleep(100 * time.Millisecond) {
		select {
		case err := <-ended:
			return 0, nil, fmt.Errorf("the engine ended (its log is %s): %w", logPath, err)
		default:
		}
		if time.Now().After(until) {
			stop()
			return 0, nil, fmt.Errorf("the engine is not ready after %s: its log is %s", o.Load, logPath)
		}
	}
	return cmd.Process.Pid, stop, nil
}

var offloaded = regexp.MustCompile(`offloaded (\d+)/(\d+) layers to GPU`)

// layers reads from the engine's log how many layers it put on the GPU. One that does not say put none there.
func layers(logPath string) (text string, all bool, err error) {
	b, err := os.ReadFile(logPath)
	if err != nil {
		return "", false, err
	}
	m := offloaded.FindSubmatch(b)
	if m == nil {
		return "", false, nil
	}
	return string(m[0]), string(m[1]) == string(m[2]), nil
}

// directClient asks the engine itself.
func directClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

// channelClient serves the engine through an enclave on loopback, whose evidence is insecure, and returns a client that accepts
// that. tick is the grid in time on which answers are sent.
func channelClient(ctx context.Context, o *options, tick time.Duration) (*http.Client, error) {
	e, err := infer.New(infer.Options{Socket: o.Socket}, time.Now)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		_ = enclave.Serve(ctx, ln, insecure.Attester{}, e, enclave.Options{Authority: "default", Rand: rand.Reader, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Tick: tick})
	}()
	cfg := client.Config{Authority: "default", Rand: rand.Reader, Now: time.Now,
		Policy: appraise.Policy{Platforms: []string{"insecure"}}, Reference: &measure.ReferenceValues{Values: []measure.Value{{}}}}
	return &http.Client{Transport: &client.Transport{Now: time.Now, Open: func(ctx context.Context) (*client.Session, error) {
		return client.Dial(ctx, new(net.Dialer), ln.Addr().String(), cfg)
	}}}, nil
}
