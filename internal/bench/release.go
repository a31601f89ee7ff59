package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tally/release/releasetest/smallout"
)

// release measures publishing with two of three witnesses, the third being away, and verifying what was published.
func (b *bench) release() error {
	if err := smallout.Write(b.path("small")); err != nil {
		return err
	}
	os.Setenv("COSIGN_PASSWORD", "bench")
	stop, err := b.witnessedLog()
	defer stop()
	if err != nil {
		return err
	}
	if err := os.WriteFile(b.path("policy.yaml"), []byte("schema: tally.policy/v1\nrelease:\n  signers: [{file: signer.pub}]\n"+
		"  log: {file: log/log.vkey, witness-policy: witnesses.txt}\n"), 0o644); err != nil {
		return err
	}
	sequence := 0
	sign := func() error {
		sequence++
		_, err := b.once(b.tally, "release", "sign", "small", "--key", "signer.key", "-o", "r.json", "--sequence", strconv.Itoa(sequence))
		return err
	}
	ms, err := b.race(2*b.runs, command{[]string{b.tally, "release", "publish", "r.json", "small", "--log", "log", "--signer", "signer.pub"}, sign},
		cmd(b.tally, "release", "verify", "r.json", "--policy", "policy.yaml"))
	if err != nil {
		return err
	}
	b.alone("release publish, two of three witnesses", ms[0], target{wall: 150 * time.Millisecond})
	b.alone("release verify", ms[1], target{wall: 60 * time.Millisecond})
	return b.releaseInProcess()
}

// alone records a figure that has no peer.
func (b *bench) alone(what string, m measured, t target) {
	b.rows = append(b.rows, row{what: what, ours: m.String(), target: t.String(), verdict: t.judge(m, 0, 0)})
}

// witnessedLog makes a log with three witnesses, two of which are there until stop is called.
func (b *bench) witnessedLog() (stop func(), err error) {
	var running []*exec.Cmd
	stop = func() {
		for _, c := range running {
			c.Process.Kill()
			c.Wait()
		}
	}
	var policy strings.Builder
	var addresses []string
	for i := range 3 {
		dir := fmt.Sprintf("witness%d", i)
		if _, err := b.once(b.tally, "log", "witness", dir, "--create", dir+".example"); err != nil {
			return stop, err
		}
		vkey, err := os.ReadFile(b.path(dir + "/witness.vkey"))
		if err != nil {
			return stop, err
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return stop, err
		}
		addresses = append(addresses, ln.Addr().String())
		ln.Close()
		fmt.Fprintf(&policy, "witness w%d %s http://%s\n", i, bytes.TrimSpace(vkey), addresses[i])
	}
	policy.WriteString("group two 2 w0 w1 w2\nquorum two\n")
	if err := os.WriteFile(b.path("witnesses.txt"), []byte(policy.String()), 0o644); err != nil {
		return stop, err
	}
	if _, err := b.once(b.tally, "log", "create", "log", "--origin", "log.bench.example", "--witness-policy", "witnesses.txt"); err != nil {
		return stop, err
	}
	for i := range 2 {
		c := exec.CommandContext(b.ctx, b.tally, "log", "witness", fmt.Sprintf("witness%d", i), "--log", "log/log.vkey", "--listen", addresses[i])
		c.Dir = b.dir
		if err := c.Start(); err != nil {
			return stop, err
		}
		running = append(running, c)
		if err := await(addresses[i]); err != nil {
			return stop, err
		}
	}
	_, err = b.once(b.tally, "release", "keygen", "-o", "signer")
	return stop, err
}

func await(address string) error {
	for range 400 {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		time.Sleep(25 * time.Millisecond)
	}
	return fmt.Errorf("nothing listens at %s", address)
}

// releaseInProcess runs the benchmarks of the packages: what has no command of its own. Their memory is the test
// binary's and says nothing.
func (b *bench) releaseInProcess() error {
	for _, r := range []struct {
		what, pkg, name string
		t               target
	}{
		{"release verify, in process", "./release", "BenchmarkVerify", target{wall: 10 * time.Millisecond}},
		{"log 100,000 leaves in bulk", "./release/log", "BenchmarkAppendAll", target{wall: 100_000 * time.Second / 30_000}},
		{"audit of 100,000 leaves", "./release/monitor", "BenchmarkAudit", target{wall: time.Second}},
	} {
		wall, err := b.goBench(r.pkg, r.name)
		if err != nil {
			return err
		}
		m := measured{wall: wall}
		b.rows = append(b.rows, row{what: r.what, ours: fmt.Sprintf("%.6f s", wall.Seconds()), target: r.t.String(), verdict: r.t.judge(m, 0, 0)})
	}
	return nil
}

var nsPerOp = regexp.MustCompile(`(?m)^Benchmark\S*\s+\d+\s+([0-9.]+) ns/op`)

// goBench is the time of one operation of a Go benchmark.
func (b *bench) goBench(pkg, name string) (time.Duration, error) {
	out, err := exec.CommandContext(b.ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", pkg).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", name, err, out)
	}
	m := nsPerOp.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s: no figure in %q", name, out)
	}
	ns, err := strconv.ParseFloat(string(m[1]), 64)
	return time.Duration(ns), err
}
