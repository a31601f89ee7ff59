package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
)

// builtExample builds examples/NAME from its committed lock or, when an input is gone from the world, says so
// and builds from a scratch lock. It returns the lock and the output.
func (l *line) builtExample(t *testing.T, name string) (lock, out string) {
	t.Helper()
	spec := filepath.Join(l.repo, "examples", name, "image.yaml")
	lock, out = filepath.Join(filepath.Dir(spec), "image.lock"), filepath.Join(l.dir, name)
	if msg, err := l.try(l.repo, nil, "build", spec, "--cache", l.cache, "-o", out); err != nil {
		t.Logf("THE COMMITTED LOCK OF examples/%s CANNOT BE BUILT HERE, a scratch lock stands in: %s", name, msg)
		lock = filepath.Join(l.dir, name+".lock")
		if msg, err := l.try(l.repo, nil, "lock", spec, "--cache", l.cache, "-o", lock); err != nil {
			testtool.Missing(t, "no Debian mirror can be reached: "+msg)
		}
		l.tallyMust(t, "build", spec, "--cache", l.cache, "--lock", lock, "-o", out)
	}
	return lock, out
}

// vtpmNote stands on every line about evidence by a TPM of the host's.
const vtpmNote = "vtpm-unendorsed, insecure: the host can forge this"

// builtLlama builds examples/llama, once, and releases it: llama.json is signed and logged, vtpm.yaml is a policy
// for the host's own TPM and for the one firmware of the release, whose PCR 0 and 2 are computed.
func (l *line) builtLlama(t *testing.T) (lock, out string) {
	t.Helper()
	testtool.Need(t, qemu.Binary)
	testtool.Need(t, qemu.TPMBinary)
	out = filepath.Join(l.dir, "llama")
	if policy := filepath.Join(l.dir, "vtpm.yaml"); exists(policy) {
		if lock = filepath.Join(l.dir, "llama.lock"); !exists(lock) {
			lock = filepath.Join(l.repo, "examples/llama/image.lock")
		}
		return lock, out
	}
	lock, out = l.builtExample(t, "llama")
	measured := l.tallyMust(t, "measure", "image", out)
	for _, want := range []string{"\nsnp-qemu 2 vcpus ", "\ntdx-qemu 1 vcpus 2048 MiB rtmr2 ", "\nvtpm pcr11 sha256 "} {
		if !strings.Contains("\n"+measured, want) {
			t.Errorf("no %q in\n%s", want, measured)
		}
	}
	l.publish(t)
	l.tallyMust(t, "release", "sign", out, "--key", "k.key", "-o", "llama.json")
	l.tallyMust(t, "release", "publish", "llama.json", out, "--log", "pub", "--signer", "k.pub")
	l.vtpmPolicy(t, out, "vtpm.yaml")
	return lock, out
}

// vtpmPolicy writes a policy that accepts the quotes of any TPM about the firmware of out.
func (l *line) vtpmPolicy(t *testing.T, out, name string) {
	t.Helper()
	zero, two := l.predictedFirmware(t, out)
	policy := strings.Replace(string(read(t, filepath.Join(l.dir, "policy.yaml"))), "platforms: [insecure]\n",
		fmt.Sprintf("platforms: [vtpm-unendorsed]\n  freshness: none\n  vtpm: {pcr0: [%s], pcr2: [%s]}\n", zero, two), 1)
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
}

// predictedFirmware returns PCR 0 and 2 of out's firmware.
func (l *line) predictedFirmware(t *testing.T, out string) (zero, two string) {
	t.Helper()
	predicted := map[string]string{}
	for _, m := range pcrLine.FindAllStringSubmatch(l.tallyMust(t, "measure", "pcr", "--uki", filepath.Join(out, "uki.efi"), "--ovmf", filepath.Join(out, "firmware/ovmf.fd"), "--machine", "q35"), -1) {
		predicted[m[1]] = m[2]
	}
	if predicted["0"] == "" || predicted["2"] == "" {
		t.Fatalf("this firmware's PCR 0 and 2 are not predicted: %v", predicted)
	}
	return predicted["0"], predicted["2"]
}

// boot runs out with a software TPM and, once it serves, command; it returns all that was said, and the exit code.
// env is added to the environment.
func (l *line) boot(t *testing.T, out string, env, args []string, command ...string) (string, int) {
	t.Helper()
	args = append([]string{"run", out, "--tpm", "--accel", "tcg", "--timeout", "5m"}, args...)
	if len(command) > 0 {
		args = append(append(args, "--"), command...)
	}
	cmd := exec.Command(l.tally, args...)
	cmd.Dir, cmd.Env = l.dir, append(os.Environ(), env...)
	said, _ := cmd.CombinedOutput()
	return string(said), cmd.ProcessState.ExitCode()
}

// TestLlamaChats builds examples/llama twice to the same bytes, releases it, and boots it with a software TPM. A
// client verifies the TPM's evidence against the registers that were computed from the image's files, and chats
// with the model behind the enclave: llama.cpp's server in its sandbox, on a verified model volume.
func TestLlamaChats(t *testing.T) {
	l := built(t)
	testtool.Need(t, "curl")
	lock, out := l.builtLlama(t)
	again := filepath.Join(t.TempDir(), "again")
	l.tallyMust(t, "build", filepath.Join(l.repo, "examples/llama/image.yaml"), "--lock", lock, "--cache", l.cache, "--offline", "-o", again)
	if a, b := read(t, filepath.Join(out, "manifest.json")), read(t, filepath.Join(again, "manifest.json")); string(a) != string(b) {
		t.Errorf("manifests differ:\n%s\n%s", a, b)
	}
	session := strings.Replace(string(read(t, filepath.Join(l.dir, "vtpm.yaml"))), "freshness: none", "freshness: session", 1)
	if err := os.WriteFile(filepath.Join(l.dir, "vtpm-session.yaml"), []byte(session), 0o644); err != nil {
		t.Fatal(err)
	}
	port, operator := freePort(t), freePort(t)
	// Two users, each with a proxy and so a session of his own, ask the same.
	users := ""
	for range 2 {
		users += fmt.Sprintf(`%s proxy 127.0.0.1:%d --policy vtpm-session.yaml --bundle llama.json --listen 127.0.0.1:%[3]d --timeout 3m >/dev/null & proxy=$!
until curl -sf -m 60 http://127.0.0.1:%[3]d/v1/models >/dev/null; do kill -0 $proxy || exit 1; sleep 1; done
curl -sf -m 120 http://127.0.0.1:%[3]d/v1/chat/completions -H 'content-type: application/json' -d '{"model":"kjv","max_tokens":8,"messages":[{"role":"user","content":"In the beginning God created the heaven and the earth. %[4]s"}]}' | sed 's/^/answer: /'; echo
kill -INT $proxy; wait $proxy
`, l.tally, port, freePort(t), canary)
	}
	// The operator's page says when the model is loaded, and afterwards what was counted.
	script := fmt.Sprintf("until curl -sf -m 5 http://127.0.0.1:%[1]d/readyz; do sleep 1; done\n"+
		"%[2]s connect 127.0.0.1:%[3]d --policy vtpm-session.yaml --bundle llama.json --evidence llama.evidence --session llama.session --timeout 3m | sed 's/^/connect: /' &&\n"+
		"%[2]s chat 127.0.0.1:%[3]d --policy vtpm-session.yaml --bundle llama.json --message 'And the LORD said' --max-tokens 24 --timeout 3m --quiet || exit\n"+
		"%[4]s"+
		"curl -sf http://127.0.0.1:%[1]d/metrics", operator, l.tally, port, users)
	said, code := l.boot(t, out, nil, []string{"--memory", "1024", "--forward", fmt.Sprintf("%d:7443", port), "--forward", fmt.Sprintf("%d:9090", operator)}, "sh", "-c", script)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, said)
	}
	checkEvidenceLines(t, said)
	checkReply(t, said)
	checkApart(t, said)
	for _, want := range []string{"model kjv on /srv/models/kjv", `msg="engine starts" uid=990`, "\ntally_engine_ready 1\n",
		`tally_requests_total{path="/v1/chat/completions",status="2xx"} 3`, `tally_boot_seconds{phase="ready"}`} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if strings.Contains(said, "engine ended") {
		t.Errorf("the engine ended:\n%s", said)
	}
	// The evidence that was saved is judged again offline, and another release has other registers.
	l.tallyMust(t, "verify", "llama.evidence", "--bundle", "llama.json", "--policy", "vtpm.yaml")
	m := sessionLines.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("connect does not say what its session was:\n%s", said)
	}
	l.tallyMust(t, "verify", "llama.evidence", "--bundle", "llama.json", "--policy", "vtpm-session.yaml", "--session", "llama.session", "--key", m[1], "--handshake", m[2], "--nonce", m[3])
	if msg, err := l.try(l.dir, nil, "verify", "llama.evidence", "--bundle", "b.sigstore.json", "--policy", "vtpm.yaml"); err == nil || !strings.Contains(msg, "appraisal: measurement: ") {
		t.Errorf("evidence of this image under the release of another: %v\n%s", err, msg)
	}
}

// sessionLines are connect's words about the key and the session.
var sessionLines = regexp.MustCompile(`(?ms)^connect: ok +key +([0-9a-f]{64}) .*^connect: session +handshake ([0-9a-f]{64}), nonce ([0-9a-f]{64}) `)

// checkEvidenceLines wants the registers of the boot among the checks, and the note on every line.
func checkEvidenceLines(t *testing.T, said string) {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^connect: (.*)$`).FindAllStringSubmatch(said, -1)
	text := ""
	for _, m := range lines {
		text += m[1] + "\n"
		if !strings.HasSuffix(m[1], "["+vtpmNote+"]") {
			t.Errorf("a line without the note: %q", m[1])
		}
	}
	for _, m := range pcrLine.FindAllStringSubmatch(said, -1) { // as the guest read them itself
		if slices.Contains([]string{"0", "2", "4", "5", "7", "9", "11", "12", "13"}, m[1]) && !strings.Contains(text, "pcr"+m[1]+" "+m[2]) {
			t.Errorf("PCR %s, %s, is not among the checks:\n%s", m[1], m[2], text)
		}
	}
	if !strings.Contains(text, "leaf 0 of 1 under one report") {
		t.Errorf("the TPM was not asked about the session:\n%s", text)
	}
	if !regexp.MustCompile(`(?m)^ACCEPTED +vtpm-unendorsed evidence`).MatchString(text) {
		t.Errorf("not accepted:\n%s", text)
	}
}

// checkReply wants an answer by the model, and none of it where a host could read it.
func checkReply(t *testing.T, said string) {
	t.Helper()
	reply := ""
	for _, line := range strings.Split(said, "\n") {
		if text, ok := strings.CutPrefix(line, "["+vtpmNote+"] "); ok {
			reply += text
		}
	}
	if len(strings.Fields(reply)) < 4 {
		t.Errorf("the model said %q\n%s", reply, said)
	}
	for _, line := range strings.Split(said, "\n") {
		if (strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "tally_")) && (strings.Contains(line, "LORD") || reply != "" && strings.Contains(line, strings.TrimSpace(reply))) {
			t.Errorf("content on the console: %s", line)
		}
	}
}

// checkApart wants nothing of a prompt to be kept from one session for another one, as the engine itself counts it, and nothing of
// it on the console or among the metrics.
func checkApart(t *testing.T, said string) {
	t.Helper()
	answers := regexp.MustCompile(`(?m)^answer: (.*)$`).FindAllStringSubmatch(said, -1)
	for i, m := range answers {
		var a struct {
			Usage struct {
				Prompt  int `json:"prompt_tokens"`
				Details struct {
					Cached *int `json:"cached_tokens"` // it counts
				} `json:"prompt_tokens_details"`
			}
		}
		if err := json.Unmarshal([]byte(m[1]), &a); err != nil || a.Usage.Prompt < 20 || a.Usage.Details.Cached == nil || *a.Usage.Details.Cached != 0 {
			t.Errorf("answer %d: %v, want no cached tokens\n%s", i, err, m[1])
		}
	}
	if len(answers) != 2 {
		t.Errorf("%d answers to two users", len(answers))
	}
	for line := range strings.Lines(said) {
		if strings.Contains(line, canary) && (strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "tally_")) {
			t.Errorf("a prompt in %s", line)
		}
	}
}

// freePort is one that nobody listens on now.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}
