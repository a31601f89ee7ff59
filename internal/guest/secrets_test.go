package guest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// publicKey returns a key on a curve, and how a configuration names it.
func publicKey(t *testing.T, c elliptic.Curve) (*ecdsa.PublicKey, string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return &k.PublicKey, base64.StdEncoding.EncodeToString(der)
}

func TestSecretsConfig(t *testing.T) {
	with := func(secrets string) string {
		return strings.Replace(goodConfig, `"network"`, `"engine": {"command": ["/e"], "uid": 990}, "secrets": `+secrets+`, "network"`, 1)
	}
	k, key := publicKey(t, elliptic.P256())
	_, p384 := publicKey(t, elliptic.P384())
	good := `{"operator": "` + key + `", "files": [{"name": "hf-token", "max-bytes": 512}, {"name": "tls.key_2", "max-bytes": 65536}]}`
	c, err := ParseConfig([]byte(with(good)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&Secrets{k, []SecretFile{{"hf-token", 512}, {"tls.key_2", 65536}}}, c.Secrets); d != "" || !c.Engine.Secrets {
		t.Error(d, c.Engine)
	}
	var many, large []string
	for i := range maxSecrets + 1 {
		many = append(many, fmt.Sprintf(`{"name": "n%d", "max-bytes": 1}`, i))
	}
	for i := range 5 {
		large = append(large, fmt.Sprintf(`{"name": "n%d", "max-bytes": 65536}`, i))
	}
	files := func(list string) string { return `{"operator": "` + key + `", "files": ` + list + `}` }
	for in, want := range map[string]string{
		`null`:                                                                "secrets.want a JSON object",
		`{"files": []}`:                                                       `no key "secrets.operator"`,
		`{"operator": "` + key + `"}`:                                         `no key "secrets.files"`,
		`{"names": [], "files": []}`:                                          `unknown key "secrets.names"`,
		strings.Replace(good, key, p384, 1):                                   "secrets.operator",
		strings.Replace(good, key, "", 1):                                     "secrets.operator",
		strings.Replace(good, key, "k.pub", 1):                                "secrets.operator",
		strings.Replace(good, key, key+"AA", 1):                               "secrets.operator",
		files(`[]`):                                                           "secrets.files: want a list of 1 to 16",
		files(`{}`):                                                           "secrets.files: want a list of 1 to 16",
		files("[" + strings.Join(many, ",") + "]"):                            "secrets.files: want a list of 1 to 16",
		files("[" + strings.Join(large, ",") + "]"):                           "327680 bytes in all",
		files(`[{"name": "a"}]`):                                              `no key "secrets.files.0.max-bytes"`,
		files(`[{"name": "a", "max-bytes": 1, "env": true}]`):                 `unknown key "secrets.files.0.env"`,
		files(`[{"name": "a", "max-bytes": 0}]`):                              "secrets.files.0.max-bytes",
		files(`[{"name": "a", "max-bytes": 65537}]`):                          "secrets.files.0.max-bytes",
		files(`[{"name": "../a", "max-bytes": 1}]`):                           "secrets.files.0.name",
		files(`[{"name": "A", "max-bytes": 1}]`):                              "secrets.files.0.name",
		files(`[{"name": "a", "max-bytes": 1},{"name": "a","max-bytes": 1}]`): "secrets.files.1.name",
	} {
		if c, err := ParseConfig([]byte(with(in))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %+v, %v; want %q", in, c, err, want)
		}
	}
	gpu := strings.Replace(withGPU(goodGPU), `"gpu"`, `"secrets": `+good+`, "gpu"`, 1)
	if c, err := ParseConfig([]byte(gpu)); err != nil || c.GPUs == nil || !c.Engine.GPU || !c.Engine.Secrets {
		t.Errorf("with GPUs: %v", err)
	}
	alone := strings.Replace(goodConfig, `"network"`, `"secrets": `+good+`, "network"`, 1)
	if _, err := ParseConfig([]byte(alone)); err == nil || !strings.Contains(err.Error(), "want an engine") {
		t.Errorf("without an engine: %v", err)
	}
}
