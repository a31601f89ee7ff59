package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	snptest "github.com/google/go-sev-guest/verify/testdata"
)

// quoteGPU runs tally quote in this process.
func quoteGPU(args ...string) (int, string, string) {
	var out, talk bytes.Buffer
	code := Main(context.Background(), append([]string{"tally", "quote"}, args...), strings.NewReader(""), &out, &talk)
	return code, out.String(), talk.String()
}

// TestQuoteGPUFiles tries files as users have them: cut, doubled, wrapped, too large, of wrong types. Each is read or refused in one line that
// names it, with nothing on stdout but a verdict.
func TestQuoteGPUFiles(t *testing.T) {
	const vectors = "../../enclave/appraise/gpu/testdata/vectors/"
	read := func(name string) string {
		b, err := os.ReadFile(vectors + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	one := strings.TrimSpace(read("attestation-sdk/hopper_evidence.json"))
	entry := one[1 : len(one)-1]
	report, err := hex.DecodeString(strings.TrimSpace(read("nvtrust/hopperAttestationReport.txt")))
	if err != nil {
		t.Fatal(err)
	}
	wrapped := func(code int, evidences string) string {
		return fmt.Sprintf(`{"evidences": %s, "result_code": %d, "result_message": "Ok"}`, evidences, code)
	}
	dir := t.TempDir()
	collateral := filepath.Join(dir, "c")
	if err := os.MkdirAll(collateral, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(collateral+"/chain.pem", []byte(read("nvtrust/hopperCertChain.txt")), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data string
		code int // of verify
		want string
	}{
		"as it is":                         {one, 0, "VERIFIED"},
		"Windows lines":                    {strings.ReplaceAll(one, ",", ",\r\n"), 0, "VERIFIED"},
		"from the collector":               {wrapped(0, one), 0, "VERIFIED"},
		"collector's failure":              {wrapped(3, "null"), 1, "ended with code 3"},
		"collector's nothing":              {wrapped(0, "null"), 1, "want 0 and an array"},
		"collector's object":               {wrapped(0, entry), 1, "want 0 and an array"},
		"collector's empty list":           {wrapped(0, "[]"), 1, "0 devices, want 1 to 32"},
		"collector's failure, with a list": {wrapped(3, one), 1, "ended with code 3"},
		"collector's code alone":           {`{"result_code": 0}`, 1, "want 0 and an array"},
		"an empty object":                  {"{}", 1, "neither an SNP report"},
		"collector's word alone":           {`{"result_message": "Ok"}`, 1, "neither an SNP report"},
		"as large as may be":               {one + strings.Repeat(" ", 2<<20-len(one)), 0, "VERIFIED"},
		"larger by a byte":                 {one + strings.Repeat(" ", 2<<20-len(one)+1), 1, "more than 2097152 bytes"},
		"collector, doubled":               {wrapped(0, one) + wrapped(0, one), 1, "more than one JSON value"},
		"collector and more":               {`{"evidences": ` + one + `, "result_code": 0, "verdict": true}`, 1, "neither an SNP report"},
		"a device twice":                   {"[" + entry + "," + entry + "]", 5, "one and the same"},
		"doubled":                          {one + one, 1, "more than one JSON value"},
		"cut":                              {one[:len(one)/2], 1, "unexpected EOF"},
		"an object":                        {entry, 1, "NVIDIA's (a JSON array of devices, or a report)"},
		"numbers":                          {"[1]", 1, "JSON number"},
		"null":                             {"[null]", 1, `arch ""`},
		"nested":                           {"[" + one + "]", 1, "JSON array"},
		"deep":                             {strings.Repeat("[", 100000), 1, "max depth"},
		"too large":                        {"[" + strings.Repeat(" ", 3<<20), 1, "more than 2097152 bytes"},
		"large, and not ours":              {`{"a": "` + strings.Repeat("x", 1<<17) + `"}`, 1, "more than 65536 bytes, and no NVIDIA evidence"},
		"very large, not ours":             {`{"a": "` + strings.Repeat("x", 3<<20) + `"}`, 1, "more than 65536 bytes, and no NVIDIA evidence"},
		"empty":                            {"", 1, "neither an SNP report"},
		"byte order mark":                  {"\ufeff" + one, 1, "neither an SNP report"},
		"no chain":                         {strings.Replace(one, `"certificate":`, `"certificate": "", "Version":`, 1), 4, "certificate chain: empty"},
		"binary":                           {string(report), 0, "VERIFIED"},
		"hex":                              {hex.EncodeToString(report), 0, "VERIFIED"},
		"binary, doubled":                  {string(report) + string(report), 4, "want 96"},
		"binary, cut":                      {string(report[:1000]), 4, "ends too early"},
		"binary, too large":                {string(report) + strings.Repeat("\x00", 60000), 4, "want at most 16384"},
		"binary, much too large":           {string(report) + strings.Repeat("\x00", 3<<20), 1, "more than 2097152 bytes"},
		"odd digits":                       {hex.EncodeToString(report)[1:], 1, "NVIDIA's"},
	} {
		file := filepath.Join(dir, "evidence")
		if err := os.WriteFile(file, []byte(c.data), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{file}
		if strings.HasPrefix(name, "binary") || strings.HasPrefix(name, "hex") {
			args = append(args, "--collateral", collateral)
		}
		code, out, talk := quoteGPU(append([]string{"verify"}, args...)...)
		if code != c.code || !strings.Contains(out+talk, c.want) || code != 0 && (strings.Count(talk, "\n") != 1 || !strings.Contains(talk, file)) || code == 1 && out != "" {
			t.Errorf("verify, %s: exit %d, want %d; %q\n%s", name, code, c.code, talk, out)
		}
		code, out, talk = quoteGPU(append([]string{"show"}, args...)...)
		if (code == 0) != strings.HasPrefix(out, "device 0") || code != 0 && (out != "" || strings.Count(talk, "\n") != 1) || c.code == 0 && code != 0 {
			t.Errorf("show, %s: exit %d; %q\n%.200s", name, code, talk, out)
		}
	}
	for _, args := range [][]string{{"verify"}, {"show"}, {"verify", dir, dir}} {
		if code, out, _ := quoteGPU(args...); code != 2 || out != "" {
			t.Errorf("%v: exit %d, %s", args, code, out)
		}
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, talk := quoteGPU("show", other, "--collateral", collateral); code != 2 || !strings.Contains(talk, "which FILE is not") {
		t.Errorf("collateral of no GPU: exit %d, %s", code, talk)
	}
}

// TestQuoteGPUCollateral: a file of the collateral that is not what its name says is named.
func TestQuoteGPUCollateral(t *testing.T) {
	const vectors = "../../enclave/appraise/gpu/testdata/vectors/"
	chain, err := os.ReadFile(vectors + "nvtrust/hopperCertChain.txt")
	if err != nil {
		t.Fatal(err)
	}
	base64, err := os.ReadFile(vectors + "go-nvattest-tools/ocsp/test_gpu_rim_l2_base64encoded_ocsp_response.dat")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file, data, reason, want string
		code                     int
	}{
		{"chain.pem", string(chain[:300]), "chain", "chain.pem: certificate 1: want whole PEM", 4},
		{"chain.pem", "", "chain", "chain.pem: certificate chain: empty", 4},
		{"a.der", "x", "ocsp", "a.der: want an OCSP response in DER", 4},
		{"a.der", string(base64), "ocsp", "a.der: want an OCSP response in DER", 4},
		{"a.der", strings.Repeat("x", 17<<10), "", "a.der: more than 16384 bytes", 1},
		{"a.xml", strings.Repeat(" ", 257<<10), "", "a.xml: more than 262144 bytes", 1},
		{"a.swidtag", "<x/>", "rim", "a.swidtag: RIM: ", 4},
	} {
		dir := t.TempDir()
		for name, data := range map[string]string{"chain.pem": string(chain), c.file: c.data} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		code, out, talk := quoteGPU("verify", vectors+"nvtrust/hopperAttestationReport.txt", "--collateral", dir)
		if code != c.code || !strings.Contains(talk, c.want) || strings.Count(talk, "\n") != 1 || strings.Contains(out, "reason: "+c.reason+"\n") != (c.reason != "") {
			t.Errorf("%s %.20q: exit %d, %s%s", c.file, c.data, code, talk, out)
		}
	}
}

// TestQuoteGPUManyFiles: a directory of collateral has an end.
func TestQuoteGPUManyFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range maxCollateral + 1 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.x", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readGPUCollateral(dir); err == nil || !strings.Contains(err.Error(), "513 files, want at most 512") {
		t.Errorf("too many: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "0.x")); err != nil {
		t.Fatal(err)
	}
	if _, err := readGPUCollateral(dir); err == nil || !strings.Contains(err.Error(), "1.x: want *.swidtag") {
		t.Errorf("as many as may be: %v", err)
	}
	if _, err := readGPUCollateral(filepath.Join(dir, "none")); err == nil {
		t.Error("no directory: no error")
	}
}

// TestQuotePipe: FILE may be a pipe, which can be read once, whatever is in it.
func TestQuotePipe(t *testing.T) {
	nvidia, err := os.ReadFile("../../enclave/appraise/gpu/testdata/vectors/attestation-sdk/hopper_evidence.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"nvidia": nvidia, "snp": snptest.AttestationBytes} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = w.Write(data)
			_ = w.Close()
		}()
		if code, out, talk := quoteGPU("show", fmt.Sprintf("/dev/fd/%d", r.Fd())); code != 0 || !strings.Contains(out, "not verified") {
			t.Errorf("%s: exit %d, %s", name, code, talk)
		}
		_ = r.Close()
	}
}
