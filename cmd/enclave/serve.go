package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"tally/enclave"
	"tally/enclave/attest/snp"
	"tally/enclave/attest/tdx"
	"tally/enclave/evidence"
	"tally/internal/erase"
)

// authorityFile names the service that this enclave is, in one line. It lies in the verity root, so that
// the host cannot change it; without it the enclave is the service "default".
const authorityFile = "/etc/tally/authority"

const defaultAuthority = "default"

// announce says on the console whose word the evidence is, and whether keys are erased after their use. Evidence that the host can forge is marked, and
// clients refuse it unless their policy names it.
func announce(a enclave.Attester, log *slog.Logger) {
	if !erase.Works {
		log.Warn("keys stay in memory after their use: this program was built without the experiment runtimesecret")
	}
	switch a.Platform() {
	case snp.Platform, tdx.Platform:
		log.Info("evidence is signed by hardware", "platform", a.Platform())
	default:
		log.Warn("evidence is insecure: the host can forge this", "platform", a.Platform())
	}
}

// runServer answers attested sessions on ln until ctx ends, with evidence by a and what opt says of beacon, GPUs,
// observer and log. serving is called once, when there is evidence to show.
func runServer(ctx context.Context, ln net.Listener, a enclave.Attester, e enclave.Engine, opt enclave.Options, serving func()) (err error) {
	if opt.Authority, err = readAuthority(authorityFile); err != nil {
		return err
	}
	first := enclave.NewKey
	if opt.GPUs != nil {
		first = enclave.GPUsServe // which is later
	}
	var once sync.Once
	observe := opt.Observe
	opt.Rand, opt.Now = rand.Reader, time.Now
	opt.Observe = func(ev enclave.Event) {
		if ev.What == first {
			once.Do(serving)
		}
		observe(ev)
	}
	return enclave.Serve(ctx, ln, a, e, opt)
}

// readAuthority reads the measured configuration. Only its absence has a default; a damaged one is an
// error.
func readAuthority(path string) (string, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return defaultAuthority, nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, evidence.MaxAuthority+2))
	if err != nil {
		return "", err
	}
	name := strings.TrimSuffix(string(data), "\n")
	if err := evidence.CheckAuthority(name); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return name, nil
}
