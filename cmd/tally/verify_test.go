package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tally/enclave"
	"tally/enclave/attesttest"
	"tally/enclave/evidence"
	"tally/measure"
)

// snpSection is a policy's words on the fake machine.
func snpSection(m *attesttest.AMD) string {
	return fmt.Sprintf("evidence:\n  platforms: [snp]\n  freshness: none\n  snp:\n    tcb: [{product: Milan, boot-loader: 4, tee: 0, snp: 24, microcode: 219}]\n    firmware: \"1.55\"\n"+
		"    signers: [vcek]\n    vmpl: 0\n    smt: allow\n    alias-check: require\n    revocation-list: ignore\n    chips: [%x]\n    roots: amd.pem\n", m.Fields.ChipID)
}

// TestVerify runs the line of a client on evidence of fake AMD hardware: connect accepts it and saves it, and
// verify says the same of the file, step by step.
func TestVerify(t *testing.T) {
	m, err := attesttest.NewAMD(time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	rv, err := measure.Parse(realReferenceValues(t))
	if err != nil {
		t.Fatal(err)
	}
	copy(m.Fields.Measurement[:], rv.Values[1].Digest)
	w := newConnectWorld(t, m, enclave.Echo{})
	who, err := os.ReadFile(w.path("nothing.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("amd.pem", string(m.RootsPEM()))
	good := string(who) + snpSection(m)
	put("good.yaml", good)
	put("real.yaml", strings.Replace(good, "    roots: amd.pem\n", "", 1))
	put("vmpl.yaml", strings.Replace(good, "vmpl: 0", "vmpl: 1", 1))
	put("tcb.yaml", strings.Replace(good, "microcode: 219", "microcode: 220", 1))
	put("session.yaml", strings.Replace(good, "freshness: none", "freshness: session", 1))
	put("broken.yaml", strings.Replace(good, "vmpl: 0", "vmpl: zero", 1))
	code, out, talk := w.run("--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--message", "hello", "--evidence", "{}/e.bin")
	if code != 0 || strings.Contains(out, "host can forge") || !strings.Contains(out, "NOT AMD's") {
		t.Fatalf("connect: exit %d\n%s%s", code, out, talk)
	}
	if _, err := os.Stat(w.path("e.bin")); err != nil {
		t.Fatal(err)
	}
	put("cut.bin", "\x01")
	run := func(args ...string) (int, string, string) {
		var out, talk bytes.Buffer
		all := []string{"tally", "verify"}
		for _, a := range args {
			all = append(all, strings.ReplaceAll(a, "{}", w.dir))
		}
		code := Main(context.Background(), all, strings.NewReader(""), &out, &talk)
		return code, out.String(), talk.String()
	}
	code, out, talk = run("{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json")
	if code != 0 || talk != "" || !strings.Contains(out, "\nACCEPTED") {
		t.Fatalf("exit %d\n%s%s", code, out, talk)
	}
	for _, want := range []string{"signature", "report-data", "tcb", "guest-policy", "vmpl", "alias-check", "machine", "configuration", "measurement", "freshness", "host-tables", "channel"} {
		if !strings.Contains(out, want) {
			t.Errorf("no line about %s:\n%s", want, out)
		}
	}
	code, out, _ = run("{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--json")
	var answer struct {
		Schema, Platform string
		Accepted         bool
		Checks           []struct{ Name, Status, Want, Got, From string }
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 || answer.Schema != "tally.verification/v1" || !answer.Accepted || len(answer.Checks) < 15 {
		t.Errorf("exit %d, %v, %+v", code, err, answer)
	}
	key, handshake, nonce := writeSession(t, m, w)
	session := []string{"{}/e.bin", "--policy", "{}/session.yaml", "--bundle", "{}/b.json", "--session", "{}/s.bin", "--key", key, "--handshake", handshake, "--nonce", nonce}
	if code, out, talk = run(session...); code != 0 || !strings.Contains(out, "leaf 1 of 3 under one report") {
		t.Errorf("session evidence: exit %d\n%s%s", code, out, talk)
	}
	connectWithSession(t, w, run)
	for name, c := range map[string]struct {
		args []string
		code int
		want string // of stdout at 5 and 4, of stderr else
	}{
		"no policy":         {[]string{"{}/e.bin", "--bundle", "{}/b.json"}, 5, ""},
		"AMD's roots":       {[]string{"{}/e.bin", "--policy", "{}/real.yaml", "--bundle", "{}/b.json"}, 5, "reason: signature"},
		"VMPL":              {[]string{"{}/e.bin", "--policy", "{}/vmpl.yaml", "--bundle", "{}/b.json"}, 5, "reason: vmpl"},
		"TCB":               {[]string{"{}/e.bin", "--policy", "{}/tcb.yaml", "--bundle", "{}/b.json"}, 5, "reason: tcb"},
		"no session":        {[]string{"{}/e.bin", "--policy", "{}/session.yaml", "--bundle", "{}/b.json"}, 5, "reason: freshness"},
		"another nonce":     {append(session[:len(session)-1:len(session)-1], handshake), 5, "reason: report-data"},
		"platform":          {[]string{"{}/e.bin", "--policy", "{}/policy.yaml", "--bundle", "{}/b.json"}, 5, "reason: platform"},
		"another service":   {[]string{"{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--authority", "x"}, 5, "reason: authority"},
		"another key":       {[]string{"{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--key", strings.Repeat("ab", 32)}, 5, "reason: key"},
		"cut evidence":      {[]string{"{}/cut.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json"}, 5, "reason: evidence"},
		"odd bundle":        {[]string{"{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/odd.json"}, 4, ""},
		"no bundle":         {[]string{"{}/e.bin", "--policy", "{}/good.yaml"}, 2, "--bundle"},
		"no evidence":       {[]string{"--policy", "{}/good.yaml", "--bundle", "{}/b.json"}, 2, "EVIDENCE"},
		"absent evidence":   {[]string{"{}/absent", "--policy", "{}/good.yaml", "--bundle", "{}/b.json"}, 1, "absent"},
		"half a session":    {[]string{"{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--nonce", "00"}, 2, "together"},
		"key of three":      {[]string{"{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--key", "abc"}, 2, "64 hex digits"},
		"broken policy":     {[]string{"{}/e.bin", "--policy", "{}/broken.yaml", "--bundle", "{}/b.json"}, 1, "vmpl"},
		"absent collateral": {[]string{"{}/e.bin", "--policy", "{}/good.yaml", "--bundle", "{}/b.json", "--collateral", "{}/no"}, 1, "no such file"},
	} {
		code, out, talk := run(c.args...)
		where := talk
		if c.code >= 4 {
			where = out
		} else if out != "" {
			t.Errorf("%s: stdout %q", name, out)
		}
		if code != c.code || !strings.Contains(where, c.want) {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", name, code, c.code, c.want, out, talk)
		}
	}
}

// writeSession writes s.bin, session evidence beside e.bin, and returns what it is about, in hex.
func writeSession(t *testing.T, m *attesttest.AMD, w connectWorld) (key, handshake, nonce string) {
	t.Helper()
	doc, err := os.ReadFile(w.path("e.bin"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := evidence.Parse(doc)
	if err != nil {
		t.Fatal(err)
	}
	h, n := [32]byte{7}, [32]byte{8}
	tree, err := evidence.NewTree([][32]byte{{1}, evidence.SessionLeaf(h, n, d.Claims.Static), {2}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tree.Prove(1)
	if err != nil {
		t.Fatal(err)
	}
	s.Platform = m.Platform()
	if s.Report, err = m.Report(evidence.SessionReportData(tree.Root())); err != nil {
		t.Fatal(err)
	}
	b, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.path("s.bin"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", d.Claims.Static), fmt.Sprintf("%x", h), fmt.Sprintf("%x", n)
}
