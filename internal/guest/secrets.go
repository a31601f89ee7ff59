package guest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sync"
)

// SecretsDir is where an engine finds its secrets, a file for each by its name.
const SecretsDir = "/run/secrets"

// Limits of secrets, those of package secrets.
const (
	maxSecrets     = 16
	maxSecret      = 64 << 10  // bytes of one
	maxSecretTotal = 256 << 10 // bytes of all
)

// Secrets are what the engine is started with: an operator sends them over an attested session, once, signed by
// the key that is named here (package secrets). The engine waits for all of them. In the configuration:
//
//	"secrets": {
//	  "operator": "MFkwEwYHKoZI…",         public key, ECDSA on P-256: SubjectPublicKeyInfo in base64, in one line
//	                                       (what stands between the lines of a PEM file)
//	  "files": [                           1 to 16, each name once: /run/secrets/NAME
//	    {"name": "hf-token", "max-bytes": 512}
//	  ]                                    max-bytes 1 to 65536, at most 262144 in all
//	}
type Secrets struct {
	Operator *ecdsa.PublicKey
	Files    []SecretFile
}

// A SecretFile is one secret.
type SecretFile struct {
	Name string // a lower-case letter or digit, then such or ._-
	Max  int    // bytes
}

var secretName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`) })

// readSecrets comes after the engine.
func readSecrets(c *Config, top map[string]json.RawMessage) (err error) {
	if c.Secrets, err = parseSecrets(top["secrets"]); err != nil {
		return err
	}
	if c.Engine == nil {
		return errors.New("secrets: want an engine that gets them")
	}
	c.Engine.Secrets = true
	return nil
}

func parseSecrets(raw json.RawMessage) (*Secrets, error) {
	o, err := object(raw, "secrets.", []string{"operator", "files"}, nil)
	if err != nil {
		return nil, err
	}
	s := new(Secrets)
	if s.Operator, err = operatorKey(o["operator"]); err != nil {
		return nil, err
	}
	var entries []json.RawMessage
	if json.Unmarshal(o["files"], &entries) != nil || len(entries) == 0 || len(entries) > maxSecrets {
		return nil, fmt.Errorf("secrets.files: want a list of 1 to %d", maxSecrets)
	}
	total, seen := int64(0), map[string]bool{}
	for i, e := range entries {
		at := fmt.Sprintf("secrets.files.%d.", i)
		o, err := object(e, at, []string{"name", "max-bytes"}, nil)
		if err != nil {
			return nil, err
		}
		name, err := text(o, "name")
		if err != nil || !secretName().MatchString(name) || seen[name] {
			return nil, fmt.Errorf("%sname %.80q: want a lower-case letter or digit, then such or ._-, at most 63 in all, and each name once", at, name)
		}
		n, err := whole(o["max-bytes"], at+"max-bytes", maxSecret)
		if err != nil {
			return nil, err
		}
		seen[name], total, s.Files = true, total+n, append(s.Files, SecretFile{name, int(n)})
	}
	if total > maxSecretTotal {
		return nil, fmt.Errorf("secrets.files: %d bytes in all, want at most %d", total, maxSecretTotal)
	}
	return s, nil
}

// operatorKey takes a key in its one encoding.
func operatorKey(raw json.RawMessage) (*ecdsa.PublicKey, error) {
	bad := errors.New("secrets.operator: want a public key, ECDSA on P-256, as SubjectPublicKeyInfo in base64 on one line")
	var der []byte
	if json.Unmarshal(raw, &der) != nil {
		return nil, bad
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, bad
	}
	ec, ok := k.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, bad
	}
	if again, err := x509.MarshalPKIXPublicKey(ec); err != nil || !bytes.Equal(again, der) {
		return nil, bad
	}
	return ec, nil
}
