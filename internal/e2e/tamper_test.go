package e2e

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/measure/eventlog"
	"tally/mkimage"
	"tally/mkimage/lock"
)

// TestTampered is what a host may do to examples/llama, and what catches it. The guest itself stops at a model or a
// root that is not as measured; with another configuration, command line or something handed to the stub it boots, and
// the client refuses, by the TPM's evidence under the release that was logged.
func TestTampered(t *testing.T) {
	l := built(t)
	lockFile, out := l.builtLlama(t)
	for name, f := range map[string]func(*testing.T, *line, string, string){
		"model": tamperedModel, "root": tamperedRoot, "config": tamperedConfig, "cmdline": tamperedCmdline, "stub": tamperedStub, "no TPM": tamperedMachine,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, l, lockFile, out)
		})
	}
}

// tamperedModel flips a bit in the middle of the weights: the guest ends when the engine reads it.
func tamperedModel(t *testing.T, l *line, _, out string) {
	m, err := mkimage.ParseManifest(read(t, filepath.Join(out, "manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	bad := editedOut(t, out, string(read(t, filepath.Join(out, "cmdline"))))
	volume := read(t, filepath.Join(out, m.Models[0].File))
	weights := read(t, filepath.Join(l.repo, "examples/llama/model/kjv.gguf"))
	at := bytes.Index(volume, weights[len(weights)/2:])
	if at < 0 {
		t.Fatal("the weights are not in the volume")
	}
	volume[at] ^= 1
	if err := os.Mkdir(filepath.Join(bad, "models"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, m.Models[0].File), volume, 0o600); err != nil {
		t.Fatal(err)
	}
	said, code := l.boot(t, bad, nil, []string{"--boot", "direct", "--memory", "1024", "--until", "engine ended"})
	if code != notVerified || !strings.Contains(said, `msg="engine starts"`) || !strings.Contains(said, "is corrupted") {
		t.Errorf("exit code %d, want %d once the engine reads\n%s", code, notVerified, said)
	}
}

// tamperedRoot flips a bit of the root's first program: the guest reads every block before it starts anything.
func tamperedRoot(t *testing.T, l *line, _, out string) {
	disk := flippedDisk(t, out, layoutOf(t, out).data+300*4096+7)
	said, code := l.boot(t, out, nil, []string{"--boot", "direct", "--disk", disk})
	if code != notVerified || !strings.Contains(said, "is corrupted") || strings.Contains(said, "starting /sbin/init") {
		t.Errorf("exit code %d, want %d before the root's program starts\n%s", code, notVerified, said)
	}
}

// tamperedConfig builds the image with a configuration that has the engine show its slots, prompts included.
func tamperedConfig(t *testing.T, l *line, lockFile, _ string) {
	clone := l.clone(t, "evil")
	config := filepath.Join(clone, "examples/llama/enclave.json")
	text := read(t, config)
	changed := bytes.Replace(text, []byte(`"--no-slots", `), nil, 1)
	if bytes.Equal(text, changed) {
		t.Fatal("the configuration has no --no-slots")
	}
	if err := os.WriteFile(config, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	spec, bad := filepath.Join(clone, "examples/llama/image.yaml"), filepath.Join(l.dir, "evil-out")
	k, err := lock.Parse(read(t, lockFile), lockFile)
	if err != nil {
		t.Fatal(err)
	}
	for i := range k.Files {
		if k.Files[i].Path == "enclave.json" {
			k.Files[i].Object = lock.Object{SHA256: sha256.Sum256(changed), Size: int64(len(changed))}
		}
	}
	data, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	l.writeFile(t, "evil.lock", data)
	l.tallyMust(t, "build", spec, "--lock", "evil.lock", "--cache", l.cache, "--offline", "-o", bad)
	said := l.refusedBoot(t, bad, nil)
	for _, pcr := range []int{4, 5, 9, 11} { // the root hash stands on the command line and names the partitions
		l.wantOther(t, said, pcr)
	}
}

// tamperedCmdline turns the scrub off in the UKI on the disk.
func tamperedCmdline(t *testing.T, l *line, _, out string) {
	disk := read(t, filepath.Join(out, "disk.raw"))
	word := []byte(" tally.scrub=1 ")
	if n := bytes.Count(disk, word); n != 1 {
		t.Fatalf("%q stands on the disk %d times", word, n)
	}
	disk[bytes.Index(disk, word)+len(word)-2] = '0'
	file := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(file, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	said := l.refusedBoot(t, out, nil, "--disk", file)
	if strings.Contains(said, "scrub: all") {
		t.Errorf("the command line is not what the host wrote:\n%s", said)
	}
	for _, pcr := range []int{4, 9, 11} {
		l.wantOther(t, said, pcr)
	}
}

// tamperedStub hands the stub a command line, an addon and a credential, which the UKI's own measurements do
// not show. Each of them extends PCR 12, which no later event can bring back to its empty value.
func tamperedStub(t *testing.T, l *line, lockFile, out string) {
	mcopy, mmd := testtool.Need(t, "mcopy"), testtool.Need(t, "mmd")
	dir := t.TempDir()
	file := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(file, read(t, filepath.Join(out, "disk.raw")), 0o600); err != nil {
		t.Fatal(err)
	}
	credential := filepath.Join(dir, "evil.cred")
	if err := os.WriteFile(credential, []byte("evil"), 0o600); err != nil {
		t.Fatal(err)
	}
	esp := fmt.Sprintf("%s@@%d", file, layoutOf(t, out).esp)
	command(t, dir, mmd, "-i", esp, "::/EFI/BOOT/BOOTX64.EFI.extra.d")
	command(t, dir, mcopy, "-i", esp, credential, l.addon(t, lockFile, dir), "::/EFI/BOOT/BOOTX64.EFI.extra.d/")
	path := wrappedQEMU(t, "-smbios type=11,value=io.systemd.stub.kernel-cmdline-extra=evil.smbios=1")
	said := l.refusedBoot(t, out, []string{path}, "--disk", file)
	if !strings.Contains(said, "want pcr12 "+strings.Repeat("0", 64)) {
		t.Errorf("refused for another reason than PCR 12:\n%s", said)
	}
	for _, pcr := range []string{"5", "11"} { // these do not tell
		if !strings.Contains(said, "pcr"+pcr+" sha256 "+l.predicted(t, out)[pcr]) {
			t.Errorf("PCR %s moved", pcr)
		}
	}
	for _, what := range []string{"evil.smbios=1", "evil.addon=1", "Credentials initrd"} {
		if n := measuredInto12(t, said, what); n != 1 {
			t.Errorf("%s: %d events of PCR 12, want 1", what, n)
		}
	}
}

// tamperedMachine takes the TPM away: the enclave does not serve with less than its configuration accepts.
func tamperedMachine(t *testing.T, l *line, _, out string) {
	cmd := exec.Command(l.tally, "run", out, "--boot", "direct", "--accel", "tcg", "--timeout", "5m", "--until-serving")
	said, _ := cmd.CombinedOutput()
	const refusal = "tally-enclave: refused: attesters: this machine has none of those that the image accepts: snp, tdx, vtpm-unendorsed"
	if code := cmd.ProcessState.ExitCode(); code != failed || !strings.Contains(string(said), refusal) || strings.Contains(string(said), "serving on") {
		t.Errorf("exit code %d, want %d and %q\n%s", code, failed, refusal, said)
	}
}

// refusedBoot boots an image that is not the release's and wants the client to refuse its measurement.
func (l *line) refusedBoot(t *testing.T, out string, env []string, args ...string) string {
	t.Helper()
	port := freePort(t)
	said, code := l.boot(t, out, env, append(args, "--memory", "1024", "--forward", fmt.Sprintf("%d:7443", port)),
		l.tally, "connect", fmt.Sprintf("127.0.0.1:%d", port), "--policy", "vtpm.yaml", "--bundle", "llama.json", "--message", "a secret", "--timeout", "3m")
	if code != 5 || !strings.Contains(said, "appraisal: measurement: ") || strings.Contains(said, "a secret\"") {
		t.Errorf("exit code %d, want 5 with reason measurement and nothing sent\n%s", code, said)
	}
	return said
}

// wantOther wants a register that is not the release's.
func (l *line) wantOther(t *testing.T, said string, pcr int) {
	t.Helper()
	want := l.predicted(t, filepath.Join(l.dir, "llama"))[fmt.Sprint(pcr)]
	if head := fmt.Sprintf("pcr%d sha256 ", pcr); want == "" || strings.Contains(said, head+want) || !strings.Contains(said, head) {
		t.Errorf("PCR %d is as the release says, or was not printed", pcr)
	}
}

// predicted are the registers computed from an image's files.
func (l *line) predicted(t *testing.T, out string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, m := range pcrLine.FindAllStringSubmatch(l.tallyMust(t, "measure", "pcr", "--uki", filepath.Join(out, "uki.efi"), "--disk", filepath.Join(out, "disk.raw")), -1) {
		all[m[1]] = m[2]
	}
	return all
}

// addon makes an addon with a command line from systemd's own stub for them, by binutils.
func (l *line) addon(t *testing.T, lockFile, dir string) string {
	t.Helper()
	k, err := lock.Parse(read(t, lockFile), lockFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range k.Packages {
		if p.Name == "systemd-boot-efi" {
			command(t, dir, testtool.Need(t, "dpkg-deb"), "-x", filepath.Join(l.cache, "sha256", p.SHA256.String()), filepath.Join(dir, "deb"))
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "words"), []byte("evil.addon=1"), 0o600); err != nil {
		t.Fatal(err)
	}
	const stub = "deb/usr/lib/systemd/boot/efi/addonx64.efi.stub"
	f, err := pe.Open(filepath.Join(dir, stub))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		t.Fatal("the stub for addons is not of 64 bits")
	}
	command(t, dir, testtool.Need(t, "objcopy"), "--add-section", ".cmdline=words", "--set-section-flags", ".cmdline=contents,alloc,load,readonly,data",
		"--change-section-vma", fmt.Sprintf(".cmdline=%#x", head.ImageBase+uint64(head.SizeOfImage)), stub, "evil.addon.efi")
	return filepath.Join(dir, "evil.addon.efi")
}

// wrappedQEMU is a PATH on which QEMU gets more arguments: what a host can do and `tally run` cannot.
func wrappedQEMU(t *testing.T, args string) string {
	t.Helper()
	return scriptedQEMU(t, `exec "$REAL" "$@" `+args)
}

// scriptedQEMU is the PATH on which QEMU is a shell script, which is told of the real one as $REAL.
func scriptedQEMU(t *testing.T, script string) string {
	t.Helper()
	real, err := qemu.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, qemu.Binary), []byte(fmt.Sprintf("#!/bin/sh\nREAL='%s'\n%s\n", real, script)), 0o755); err != nil {
		t.Fatal(err)
	}
	return "PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH")
}

// measuredInto12 counts the events of PCR 12 on the console whose data hold text, in UTF-16 or as it is.
func measuredInto12(t *testing.T, said, text string) (n int) {
	t.Helper()
	var all strings.Builder
	for _, m := range logLine.FindAllStringSubmatch(said, -1) {
		all.WriteString(m[1])
	}
	data, err := base64.StdEncoding.DecodeString(all.String())
	if err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log.Events {
		if e.Index == 12 && bytes.Contains(bytes.ReplaceAll(e.Data, []byte{0}, nil), []byte(text)) {
			n++
		}
	}
	return n
}
