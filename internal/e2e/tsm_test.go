package e2e

import (
	"bufio"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"tally/enclave/attesttest"
	"tally/internal/qemu"
	"tally/internal/testtool"
)

// A processor is a simulated AMD secure processor that a guest reaches by its second serial port.
type processor struct {
	mu       sync.Mutex
	amd      *attesttest.AMD
	manifest []byte // of an SVSM's TPM, which the guest then has
	reports  int
}

// serve answers requests: what is asked for and 64 bytes in, the lengths of report, certificates and manifest and those
// three out (tally_psp.c).
func (p *processor) serve(t *testing.T, ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		return // the test has ended
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		var request [1 + 64]byte
		if await(in, "TALLYPSP") != nil {
			return
		}
		if _, err := io.ReadFull(in, request[:]); err != nil {
			return
		}
		p.mu.Lock()
		data, manifest := [64]byte(request[1:]), []byte(nil)
		if request[0] == 1 { // AMD 58019, section 7
			manifest = p.manifest
			data = sha512.Sum512(slices.Concat(data[:], manifest))
		}
		report, certs, err := p.amd.Attest(t.Context(), data)
		p.reports++
		p.mu.Unlock()
		if err != nil {
			t.Error(err)
			return
		}
		head := binary.LittleEndian.AppendUint32(nil, uint32(len(report)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(certs)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(manifest)))
		if _, err := conn.Write(slices.Concat(head, report, certs, manifest)); err != nil {
			return
		}
	}
}

// await reads past what comes before magic, whose first byte stands in it once.
func await(in io.ByteReader, magic string) error {
	for n := 0; n < len(magic); {
		b, err := in.ReadByte()
		switch {
		case err != nil:
			return err
		case b == magic[n]:
			n++
		case b == magic[0]:
			n = 1
		default:
			n = 0
		}
	}
	return nil
}

// claim makes it say another measurement, as a machine that booted something else would.
func (p *processor) claim(m [48]byte) (reports int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.amd.Fields.Measurement = m
	return p.reports
}

const fakeSNP = `    tcb: [{product: Milan, boot-loader: 4, tee: 0, snp: 24, microcode: 219}]
    firmware: "1.55"
    signers: [vcek]
    vmpl: 0
    smt: allow
    alias-check: require
    revocation-list: require
    chips: [any]
    roots: fake-amd.pem
`

const fakeSNPPolicy = "platforms: [snp]\n  freshness: session\n  snp:\n" + fakeSNP

// TestReportsInAGuest boots an image that wants SNP with a kernel whose secure processor is simulated on this host:
// everything above the firmware is what runs on hardware. The kernel's configfs-tsm gives the enclave reports
// for its key and for each session, and the client holds them to the launch digest of the logged release.
func TestReportsInAGuest(t *testing.T) {
	l := built(t)
	l.needSteps(t)
	testtool.Need(t, qemu.Binary)
	out, digest := l.builtTSM(t)
	psp := l.newProcessor(t, digest)
	l.writeFile(t, "snp.yaml", []byte(strings.Replace(string(read(t, filepath.Join(l.dir, "policy.yaml"))), "platforms: [insecure]\n", fakeSNPPolicy, 1)))
	l.writeFile(t, "amd.yaml", []byte(strings.Replace(string(read(t, filepath.Join(l.dir, "snp.yaml"))), "    roots: fake-amd.pem\n", "", 1)))
	addr := l.bootTSM(t, out, psp, "", "--boot", "direct")
	connect := func(policy string) (string, int) { return l.connectTSM(addr, policy) }
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

// TestSVSMInAGuest boots the same image by its UKI beside a software TPM, with a kernel that says an SVSM is beneath it: the
// SVSM vouches for the TPM's endorsement key, and the TPM proves its own to each client.
func TestSVSMInAGuest(t *testing.T) {
	l := built(t)
	l.needSteps(t)
	testtool.Need(t, qemu.Binary)
	testtool.Need(t, qemu.TPMBinary)
	out, _ := l.builtTSM(t)
	psp := l.newProcessor(t, [48]byte{0x5a})
	dir, manifest := endorsedTPM(t)
	psp.manifest = manifest
	zero, two := l.predictedFirmware(t, out)
	policy := fmt.Sprintf("platforms: [vtpm-svsm]\n  freshness: session\n  vtpm-svsm:\n    svsms: [5a%s]\n    pcr0: [%s]\n    pcr2: [%s]\n    snp:\n", strings.Repeat("00", 47), zero, two) +
		"  " + strings.TrimSuffix(strings.ReplaceAll(fakeSNP, "\n", "\n  "), "  ")
	l.writeFile(t, "svsm.yaml", []byte(strings.Replace(string(read(t, filepath.Join(l.dir, "policy.yaml"))), "platforms: [insecure]\n", policy, 1)))
	sock := filepath.Join(dir, "ctrl")
	start(t, qemu.TPMBinary, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+sock, "--flags", "startup-clear")
	addr := l.bootTSM(t, out, psp, " -chardev socket,id=tpm,path="+sock+" -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0")
	said, code := l.connectTSM(addr, "svsm.yaml")
	if code != 0 || !strings.Contains(said, "TPM opened a challenge about key 000b") || !strings.Contains(said, "pcr11 ") || !strings.Contains(said, `"hello"`) || strings.Contains(said, "can forge") {
		t.Errorf("exit code %d\n%s", code, said)
	}
	l.writeFile(t, "other.yaml", []byte(strings.Replace(string(read(t, filepath.Join(l.dir, "svsm.yaml"))), "svsms: [5a", "svsms: [5b", 1)))
	if said, code := l.connectTSM(addr, "other.yaml"); code != 5 || !strings.Contains(said, "appraisal: measurement: ") {
		t.Errorf("another SVSM: exit code %d\n%s", code, said)
	}
}

// endorsedTPM is the state of a new software TPM, and the TPMT_PUBLIC of its endorsement key.
func endorsedTPM(t *testing.T) (dir string, ek []byte) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tally-svsm-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "s")
	stop := start(t, qemu.TPMBinary, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+sock, "--flags", "not-need-init,startup-clear")
	defer stop()
	conn := awaitSocket(t, sock)
	defer conn.Close()
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(tpm2.RSAEKTemplate)}.Execute(transport.FromReadWriter(conn))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(transport.FromReadWriter(conn)); err != nil {
		t.Fatal(err)
	}
	return dir, rsp.OutPublic.Bytes()
}

// start runs a program until stop or the end of the test.
func start(t *testing.T, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(stop)
	return stop
}

func awaitSocket(t *testing.T, path string) net.Conn {
	t.Helper()
	for range 500 {
		if c, err := net.Dial("unix", path); err == nil {
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: nobody listens", path)
	return nil
}

// newProcessor is one that says the measurement m, whose roots are fake-amd.pem.
func (l *line) newProcessor(t *testing.T, m [48]byte) *processor {
	t.Helper()
	fake, err := attesttest.NewAMD(time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := fake.Revoke(time.Now().Add(-time.Hour), false); err != nil {
		t.Fatal(err)
	}
	fake.Fields.Measurement = m
	l.writeFile(t, "fake-amd.pem", fake.RootsPEM())
	return &processor{amd: fake}
}

func (l *line) connectTSM(addr, policy string) (string, int) {
	cmd := exec.Command(l.tally, "connect", addr, "--policy", policy, "--bundle", "tsm.json", "--message", "hello", "--timeout", "3m")
	cmd.Dir = l.dir
	said, _ := cmd.CombinedOutput()
	return string(said), cmd.ProcessState.ExitCode()
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
	if out = filepath.Join(l.dir, "tsm"); exists(filepath.Join(l.dir, "tsm.json")) {
		return out, l.launchDigest(t, out)
	}
	l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	digest = l.launchDigest(t, out) // which writes the reference values
	l.publish(t)
	l.tallyMust(t, "release", "sign", out, "--key", "k.key", "-o", "tsm.json")
	l.tallyMust(t, "release", "publish", "tsm.json", out, "--log", "pub", "--signer", "k.pub")
	return out, digest
}

func (l *line) launchDigest(t *testing.T, out string) (digest [48]byte) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^snp-qemu 1 vcpus ([0-9a-f]{96}) `).FindStringSubmatch(l.tallyMust(t, "measure", "image", out))
	if m == nil {
		t.Fatal("no launch digest")
	}
	if _, err := hex.Decode(digest[:], []byte(m[1])); err != nil {
		t.Fatal(err)
	}
	return digest
}

// bootTSM boots the image beside psp, and what else machine says, until the test ends, and returns the enclave's address.
func (l *line) bootTSM(t *testing.T, out string, psp *processor, machine string, args ...string) string {
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
	cmd := exec.Command(l.tally, append([]string{"run", out, "--accel", "tcg", "--timeout", "5m", "--forward", fmt.Sprintf("%d:7443", port)}, args...)...)
	cmd.Env = append(os.Environ(), wrappedQEMU(t, "-chardev socket,id=psp,path="+sock+" -device isa-serial,chardev=psp,iobase=0x2f8,irq=3,index=1"+machine))
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
