package kmsplugin_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"tally/internal/kmsplugin"
)

// memory has one key.
type memory struct{ key *ecdsa.PrivateKey }

func (m *memory) Public(ref string) (*ecdsa.PublicKey, error) {
	if ref != "k" || m.key == nil {
		return nil, errors.New("no such key")
	}
	return &m.key.PublicKey, nil
}

func (m *memory) Sign(ref string, digest []byte) ([]byte, error) {
	if _, err := m.Public(ref); err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, m.key, digest)
}

func (m *memory) Create(string) (pub *ecdsa.PublicKey, err error) {
	m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return &m.key.PublicKey, err
}

const head = `{"initOptions":{"protocolVersion":"v1","keyResourceID":"k","hashFunc":5},`

func TestBadRequests(t *testing.T) {
	m := new(memory)
	if _, err := m.Create("k"); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"it is run by":             {"x"},
		`protocol "v2"`:            {"x", "v2", "{}"},
		"at most":                  {"x", "v1", strings.Repeat(" ", 65<<10)},
		"request: ":                {"x", "v1", "{"},
		"want initOptions":         {"x", "v1", "{}"},
		"hashFunc":                 {"x", "v1", `{"initOptions":{"hashFunc":7}}`},
		`method "": not known`:     {"x", "v1", head + `"methodName":""}`},
		`method "sing": not known`: {"x", "v1", head + `"methodName":"sing"}`},
		"want algorithm":           {"x", "v1", head + `"methodName":"createKey","createKey":{"algorithm":"rsa"}}`},
		"createKey: want":          {"x", "v1", head + `"methodName":"createKey"}`},
		"want a signature":         {"x", "v1", head + `"methodName":"verifySignature"}`},
		"does not verify":          {"x", "v1", head + `"methodName":"verifySignature","verifySignature":{"signature":"AAAA"}}`},
		"digest has 3 bytes":       {"x", "v1", head + `"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{"digest":"AAAA"}}}}`},
		"want SHA-256 as hashFunc": {"x", "v1", head + `"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{"hashFunc":7}}}}`},
		"no such key":              {"x", "v1", strings.Replace(head, `"k"`, `"j"`, 1) + `"methodName":"publicKey"}`},
	} {
		var out bytes.Buffer
		code := kmsplugin.Main(args, strings.NewReader(""), &out, m)
		var r struct{ ErrorMessage string }
		if err := json.Unmarshal(out.Bytes(), &r); err != nil || code != 1 || !strings.Contains(r.ErrorMessage, want) {
			t.Errorf("%.80q: exit %d, %q, %v; want %q in it", args, code, r.ErrorMessage, err, want)
		}
	}
}

// Whatever the request, there is one JSON object for an answer, and an error has exit code 1.
func FuzzMain(f *testing.F) {
	f.Add(head+`"methodName":"signMessage","signMessage":{"signOptions":{"messageOptions":{}}}}`, "message")
	f.Add(head+`"methodName":"publicKey"}`, "")
	f.Add(head+`"methodName":"defaultAlgorithm"}`, "")
	m := new(memory)
	if _, err := m.Create("k"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, request, message string) {
		var out bytes.Buffer
		code := kmsplugin.Main([]string{"x", "v1", request}, strings.NewReader(message), &out, m)
		var r map[string]any
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if _, failed := r["errorMessage"]; failed != (code == 1) {
			t.Errorf("exit %d with %s", code, out.Bytes())
		}
	})
}
