package witness

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"tally/internal/atomicfile"
	"tally/release"
)

const (
	keyFile  = "witness.key"
	vkeyFile = "witness.vkey"
	logDir   = "logs"
	evidence = "evidence"
	lockFile = ".lock"
	prefix   = "PRIVATE+KEY+"
)

// Create makes a witness called name in dir, which must be absent or empty.
func Create(dir, name string, rand io.Reader) (release.WitnessKey, error) {
	pub, private, err := ed25519.GenerateKey(rand)
	if err != nil {
		return release.WitnessKey{}, fmt.Errorf("witness key: %w", err)
	}
	k, err := release.NewWitnessKey(name, pub)
	if err != nil {
		return k, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return k, fmt.Errorf("witness: directory %q is not empty", dir)
	}
	// A witness that somebody else makes meanwhile is not replaced: its key has been shown.
	tmp, err := atomicfile.CreateDir(dir, atomicfile.NoMarker)
	if err != nil {
		return k, err
	}
	defer tmp.Abort()
	for _, sub := range []string{logDir, evidence} {
		if err := os.Mkdir(filepath.Join(tmp.Path, sub), 0o755); err != nil {
			return k, err
		}
	}
	// The third part of the verifier key is type and public key; the private key has type and seed there.
	head := strings.SplitN(k.String(), "+", 3)[:2]
	secret := prefix + strings.Join(head, "+") + "+" + base64.StdEncoding.EncodeToString(append([]byte{4}, private.Seed()...)) + "\n"
	if err := atomicfile.WriteFile(filepath.Join(tmp.Path, keyFile), []byte(secret), 0o600); err != nil {
		return k, err
	}
	if err := atomicfile.WriteFile(filepath.Join(tmp.Path, vkeyFile), []byte(k.String()+"\n"), 0o644); err != nil {
		return k, err
	}
	return k, tmp.Commit()
}

// readKey reads the private key of the witness in dir.
func readKey(dir string) (release.WitnessKey, ed25519.PrivateKey, error) {
	path := filepath.Join(dir, keyFile)
	f, err := os.Open(path)
	if err != nil {
		return release.WitnessKey{}, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return release.WitnessKey{}, nil, err
	}
	k, private, err := parseKey(strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return k, nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, private, nil
}

func parseKey(s string) (release.WitnessKey, ed25519.PrivateKey, error) {
	bad := errors.New("want PRIVATE+KEY+NAME+HASH+KEY of a witness (type 4)") // never quotes the key
	rest, ok := strings.CutPrefix(s, prefix)
	parts := strings.Split(rest, "+")
	if !ok || len(parts) < 3 {
		return release.WitnessKey{}, nil, bad
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.Join(parts[2:], "+"))
	if err != nil || len(raw) != 1+ed25519.SeedSize || raw[0] != 4 {
		return release.WitnessKey{}, nil, bad
	}
	private := ed25519.NewKeyFromSeed(raw[1:])
	k, err := release.NewWitnessKey(parts[0], private.Public().(ed25519.PublicKey))
	if err != nil || !strings.HasPrefix(k.String(), parts[0]+"+"+parts[1]+"+") {
		return release.WitnessKey{}, nil, bad
	}
	return k, private, nil
}
