package log

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tally/internal/atomicfile"
	"tally/release"
)

// Files of a log directory.
const (
	VKeyFile        = "log.vkey"
	PolicyFile      = "policy.txt"
	TrustedRootFile = "trusted_root.json"
	CheckpointFile  = "checkpoint"
)

// CreateOptions are what a new log needs.
type CreateOptions struct {
	Origin  string    // bare host name, never used for another log
	KeyFile string    // where the private key goes; must not exist and not lie in the directory
	Rand    io.Reader // crypto/rand.Reader outside tests
	Now     time.Time // start of the log key's validity in trusted_root.json
	Logger  *slog.Logger

	// Witnesses are the witness, group and quorum lines of a C2SP tlog-policy, each witness with its
	// URL; empty: nobody cosigns.
	Witnesses []byte
}

// Create makes an empty log in dir, which must be absent or empty, and writes its private key to
// o.KeyFile with mode 0600. On error neither stays behind.
func Create(ctx context.Context, dir string, o CreateOptions) (key release.LogKey, err error) {
	if err := release.CheckOrigin(o.Origin); err != nil {
		return key, err
	}
	if err := checkPlaces(dir, o.KeyFile); err != nil {
		return key, err
	}
	skey, vkey, err := note.GenerateKey(o.Rand, o.Origin)
	if err != nil {
		return key, fmt.Errorf("log key: %w", err)
	}
	if key, err = release.ParseLogKey(vkey); err != nil {
		return key, err
	}
	// An earlier log is never replaced, nor one that somebody else makes meanwhile: its private key would be left over.
	tmp, err := atomicfile.CreateDir(dir, atomicfile.NoMarker)
	if err != nil {
		return key, err
	}
	defer tmp.Abort()
	if err := writePublic(tmp.Path, key, o); err != nil {
		return key, err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return key, err
	}
	// Writes the checkpoint of the empty tree, which no witness can know of yet.
	l, err := open(ctx, tmp.Path, signer, key, o.Logger, nil, settings{batch: 1})
	if err != nil {
		return key, err
	}
	if err := l.Close(); err != nil {
		return key, err
	}
	if err := atomicfile.WriteNew(o.KeyFile, []byte(skey+"\n"), 0o600); err != nil {
		return key, err
	}
	if err := tmp.Commit(); err != nil {
		return key, errors.Join(err, os.Remove(o.KeyFile))
	}
	return key, nil
}

func checkPlaces(dir, keyFile string) error {
	if keyFile == "" {
		return errors.New("log key: no file to write it to")
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("log: directory %q is not empty", dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(keyFile); err == nil {
		return fmt.Errorf("log key: %q exists; an old key never signs a new log", keyFile)
	}
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	absKey, err := filepath.Abs(keyFile)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(absDir, absKey); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("log key: %q lies in the directory that is served", keyFile)
	}
	return nil
}

func writePublic(dir string, key release.LogKey, o CreateOptions) error {
	root, err := trustedRoot(key, o.Now)
	if err != nil {
		return err
	}
	policy := "log " + key.String() + "\nquorum none\n"
	if len(o.Witnesses) > 0 {
		policy = "log " + key.String() + "\n" + strings.TrimSuffix(string(o.Witnesses), "\n") + "\n"
		if _, err := parsePolicy([]byte(policy), "witness policy", key); err != nil {
			return err
		}
	}
	for name, data := range map[string]string{
		VKeyFile:        key.String() + "\n",
		PolicyFile:      policy,
		TrustedRootFile: string(root),
	} {
		if err := atomicfile.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// trustedRoot is the Sigstore trusted root that knows this log and nothing else
// (github.com/sigstore/protobuf-specs, protos/sigstore_trustroot.proto).
func trustedRoot(key release.LogKey, now time.Time) ([]byte, error) {
	der, err := key.PKIX()
	if err != nil {
		return nil, err
	}
	id := key.ID()
	b64 := base64.StdEncoding.EncodeToString
	out, err := json.MarshalIndent(map[string]any{
		"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		"tlogs": []any{map[string]any{
			"baseUrl":       "https://" + key.Origin(),
			"hashAlgorithm": "SHA2_256",
			"publicKey": map[string]any{
				"rawBytes": b64(der), "keyDetails": "PKIX_ED25519",
				"validFor": map[string]string{"start": now.UTC().Truncate(time.Second).Format(time.RFC3339)},
			},
			"logId": map[string]string{"keyId": b64(id[:])},
		}},
	}, "", "  ")
	return append(out, '\n'), err
}

// ReadKey reads the public key of the log in dir.
func ReadKey(dir string) (release.LogKey, error) {
	data, err := readLine(filepath.Join(dir, VKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return release.LogKey{}, fmt.Errorf("log: %q is not a log directory (no %s); make one with 'tally log create'", dir, VKeyFile)
	}
	if err != nil {
		return release.LogKey{}, err
	}
	return release.ParseLogKey(data)
}

// readLine reads a small file of one line.
func readLine(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4097))
	if err != nil {
		return "", err
	}
	line := strings.TrimSuffix(string(data), "\n")
	if len(data) > 4096 || line == "" || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("%s: want one line of at most 4096 bytes", path)
	}
	return line, nil
}
