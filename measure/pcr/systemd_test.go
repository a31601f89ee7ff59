package pcr

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tally/internal/testtool"
)

var measureLine = regexp.MustCompile(`(?m)^11:(sha[0-9]+)=([0-9a-f]+)$`)

// TestBesideSystemdMeasure asks the tool of the field for PCR 11, in each bank that it knows and at each
// phase of a boot. Bookworm's release 252 takes neither .uname nor .sbat, and stubs measure them from 254 on:
// the UKI here has none, or one of those stubs that leave them out.
func TestBesideSystemdMeasure(t *testing.T) {
	tool := testtool.Need(t, "systemd-measure")
	sections := map[string][]byte{".linux": image([]string{".text"}, map[string][]byte{".text": []byte("kernel")}), ".osrel": []byte("ID=x\n"),
		".cmdline": []byte("quiet"), ".initrd": []byte("odd"), ".splash": []byte("BM"), ".dtb": []byte("tree"), ".pcrpkey": []byte("-----BEGIN PUBLIC KEY-----\n")}
	dir := t.TempDir()
	args := []string{"calculate"}
	for name, data := range sections {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--"+name[1:]+"="+path)
	}
	change := map[string][]byte{".uname": nil, ".sbat": nil}
	for name, data := range sections {
		change[name] = data
	}
	ukis := map[string][]byte{"257, without": fakeUKI("257", change)}
	change[".uname"], change[".sbat"] = []byte("6.1"), []byte("sbat,1\n")
	for _, stub := range []string{"252.39-1~deb12u2", "253"} {
		ukis[stub] = fakeUKI(stub, change)
	}
	for _, phases := range [][]string{nil, {"enter-initrd"}, {"enter-initrd", "leave-initrd", "sysinit", "ready"}} {
		for _, bank := range []Bank{SHA1, SHA256, SHA384, SHA512} {
			out, err := exec.Command(tool, append(slices.Clone(args), "--bank="+string(bank), "--phase="+strings.Join(phases, ":"))...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			m := measureLine.FindStringSubmatch(string(out))
			if m == nil || m[1] != string(bank) {
				t.Fatalf("systemd-measure says\n%s", out)
			}
			for stub, uki := range ukis {
				r, err := Boot(Input{UKI: uki, Phases: phases}, bank)
				if err != nil {
					t.Fatal(err)
				}
				if got := r.PCRs[11].String(); got != m[2] {
					t.Errorf("stub %s, %s, phases %v: PCR 11 %s, systemd-measure says %s", stub, bank, phases, got, m[2])
				}
			}
		}
	}
}

// TestSystemdMeasure257 replays what a release says that knows .uname and .sbat: PCR 11 and the policy digest
// that it signs.
func TestSystemdMeasure257(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/systemd-measure-257.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Sections map[string]string
		Banks    map[Bank][]struct{ Phase, PCR11, Policy string }
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	change := map[string][]byte{}
	for name, text := range v.Sections {
		change["."+name] = []byte(text)
	}
	// The stub starts no kernel here: 258 and later do not look into .linux, which is no image.
	uki := fakeUKI("258", change)
	if len(v.Banks) != 3 {
		t.Fatalf("%d banks, want 3", len(v.Banks))
	}
	for bank, cases := range v.Banks {
		for _, c := range cases {
			in := Input{UKI: uki}
			if c.Phase != "" {
				in.Phases = []string{c.Phase}
			}
			r, err := Boot(in, bank)
			if err != nil {
				t.Fatal(err)
			}
			if got := r.PCRs[11].String(); got != c.PCR11 {
				t.Errorf("%s, phase %q: PCR 11 %s, systemd-measure says %s", bank, c.Phase, got, c.PCR11)
			}
			if got, err := Policy(bank, r.PCRs[11]); err != nil || got.String() != c.Policy {
				t.Errorf("%s, phase %q: policy %s, %v; systemd-measure signs %s", bank, c.Phase, got, err, c.Policy)
			}
		}
	}
	if _, err := Policy(SHA1, make(Value, 32)); err == nil {
		t.Error("a value of another bank: no error")
	}
}
