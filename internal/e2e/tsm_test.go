package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tally/enclave/attesttest"
	"tally/internal/qemu"
	"tally/internal/testtool"
)

// A processor is a simulated AMD secure processor that a guest reaches by its second serial port.
type processor struct {
	mu      sync.Mutex
	amd     *attesttest.AMD
	reports int
}

// serve answers requests: 64 bytes of REPORTDATA in, the lengths of report and certificates and both out.
func (p *processor) serve(t *testing.T, ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		return // the test has ended
	}
	defer conn.Close()
	for {
		var data [64]byte
		if _, err := io.ReadFull(conn, data[:]); err != nil {
			return
		}
		p.mu.Lock()
		report, certs, err := p.amd.Attest(t.Context(), data)
		p.reports++
		p.mu.Unlock()
		if err != nil {
			t.Error(err)
			return
		}
		head := binary.LittleEndian.AppendUint32(nil, uint32(len(report)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(certs)))
		if _, err := conn.Write(append(append(head, report...), certs...)); err != nil {
			return
		}
	}
}

// claim makes it say another measurement, as a machine that booted something else would.
func (p *processor) claim(m [48]byte) (reports int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.amd.Fields.Measurement = m
	return p.reports
}

const fakeSNPPolicy = `platforms: [snp]
  freshness: session
  snp:
    tcb: [{product: Milan, boot-loader: 4, tee: 0, snp: 24, microcode: 219}]
    firmware: "1.55"
    signers: [vcek]
    vmpl: 0
    smt: allow
    alias-check: require
    revocation-list: require
    chips: [any]
    roots: fake-amd.pem
`

// TestReportsInAGuest boots an image that wants SNP with a kernel whose secure processor is simulated on this host:
// everything above the firmware is what runs on hardware. The kernel's configfs-tsm gives the enclave reports
// for its key and for each session, and the client holds them to the launch digest of the logged release.
func TestReportsInAGuest(t *testing.T) {
	l := built(t)
	l.needSteps(t)
	testtool.Need(t, qemu.Binary)
	out, digest := l.builtTSM(t)
	fake, err := attesttest.NewAMD(time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := fake.Revoke(time.Now().Add(-time.Hour), false); err != nil {
		t.Fatal(err)
	}
	psp := &processor{amd: fake}
	psp.claim(digest)
	l.writeFile(t, "fake-amd.pem", fake.RootsPEM())
	l.writeFile(t, "snp.yaml", []byte(strings.Replace(string(read(t, filepath.Join(l.dir, "policy.yaml"))), "platforms: [insecure]\n", fakeSNPPolicy, 1)))
	l.writeFile(t, "amd.yaml", []byte(strings.Replace(string(read(t, filepath.Join(l.dir, "snp.yaml"))), "    roots: fake-amd.pem\n", "", 1)))
	addr := l.bootTSM(t, out, psp)
	connect := func(policy string) (string, int) {
		cmd := exec.Command(l.tally, "connect", addr, "--policy", policy, "--bundle", "tsm.json", "--message", "hello", "--timeout", "3m")
		cmd.Dir = l.dir
		said, _ := cmd.CombinedOutput()
		return string(said), cmd.ProcessState.ExitCode()
	}
	said, code := connect("snp.yaml")
	if code != 0 || !strings.Contains(said, "launch_digest "+hex.EncodeToString(digest[:])) || !strings.Contains(said, `"hello"`) || strings.Contains(said, "can forge") {
		t.Errorf("exit code %d\n%s", code, said)
	}
	if n := psp.claim(digest); n < 2 {
		t.Errorf("%d reports, want one for the key and one for the session", n)
	}
	// AMD's own roots do not know this processor, and a session's report of another image is not the key's.
	if said, code := connect("amd.yaml"); code != 5 || !strings.Contains(said, "appraisal: signature: ") {
		t.Errorf("under AMD's roots: exit code %d\n%s", code, said)
	}
	digest[0] ^= 1
	psp.claim(digest)
	if said, code := connect("snp.yaml"); code != 5 || !strings.Contains(said, "appraisal: measurement: ") || strings.Contains(said, `"hello"`) {
		t.Errorf("a session with a report of another image: exit code %d\n%s", code, said)
	}
}

func (l *line) writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// builtTSM builds and releases the image, and returns its launch digest.
func (l *line) builtTSM(t *testing.T) (out string, digest [48]byte) {
	t.Helper()
	spec, lock := filepath.Join(l.repo, "internal/e2e/testdata/tsmfake/image.yaml"), filepath.Join(l.dir, "tsm.lock")
	if msg, err := l.try(l.dir, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
		testtool.Missing(t, "no Debian mirror can be reached: "+msg)
	}
	out = filepath.Join(l.dir, "tsm")
	l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	m := regexp.MustCompile(`(?m)^snp-qemu 1 vcpus ([0-9a-f]{96}) `).FindStringSubmatch(l.tallyMust(t, "measure", "image", out))
	if m == nil {
		t.Fatal("no launch digest")
	}
	if _, err := hex.Decode(digest[:], []byte(m[1])); err != nil {
		t.Fatal(err)
	}
	l.publish(t)
	l.tallyMust(t, "release", "sign", out, "--key", "k.key", "-o", "tsm.json")
	l.tallyMust(t, "release", "publish", "tsm.json", out, "--log", "pub", "--signer", "k.pub")
	return out, digest
}

// bootTSM boots the image beside psp until the test ends, and returns the enclave's address.
func (l *line) bootTSM(t *testing.T, out string, psp *processor) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tally-psp-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "psp")
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go psp.serve(t, ln)
	port := freePort(t)
	cmd := exec.Command(l.tally, "run", out, "--boot", "direct", "--accel", "tcg", "--timeout", "5m", "--forward", fmt.Sprintf("%d:7443", port))
	cmd.Env = append(os.Environ(), wrappedQEMU(t, "-chardev socket,id=psp,path="+sock+" -device isa-serial,chardev=psp,iobase=0x2f8,irq=3,index=1"))
	console, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(os.Interrupt); cmd.Wait() })
	awaitLine(t, console, "tally-enclave: serving")
	return fmt.Sprintf("127.0.0.1:%d", port)
}
