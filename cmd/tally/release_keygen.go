package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"tally/internal/atomicfile"
	"tally/internal/cli"
	"tally/release/sign"
	"tally/release/sign/kms"
)

func releaseKeygenCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "keygen", Usage: "make a signing key in cosign's format",
		Flags: append(passwordFlags(),
			&cli.StringFlag{Name: "key", Usage: "make the key behind the plug-in of `NAME://ID` and write PREFIX.pub alone"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "cosign", Usage: "write `PREFIX`.key and PREFIX.pub"},
		),
		Description: "ECDSA P-256. The private key is encrypted under a password; stock cosign reads both files.\n" + passwordHelp +
			"\n" + keyRefHelp +
			"\n--json prints tally.key/v1: key_file (with --key: key_ref), public_file, key_id (SHA-256 of the public key's SubjectPublicKeyInfo).\n\n   tally release keygen -o release\n   tally release keygen --key tpm://81010001 -o release",
		Action: func(c *cli.Context) error { return releaseKeygen(c, e) },
	}
}

// A keyAnswer is tally.key/v1.
type keyAnswer struct {
	Schema     string `json:"schema"`
	KeyFile    string `json:"key_file,omitempty"`
	KeyRef     string `json:"key_ref,omitempty"`
	PublicFile string `json:"public_file"`
	KeyID      string `json:"key_id"`
}

func releaseKeygen(c *cli.Context, e *env) error {
	if err := wantArgs(c); err != nil {
		return err
	}
	if c.IsSet("key") {
		return releaseKeygenRef(c, e)
	}
	private, public := c.String("output")+".key", c.String("output")+".pub"
	for _, f := range []string{private, public} {
		if _, err := os.Lstat(f); err == nil {
			return fmt.Errorf("%s exists: a key is never overwritten", f)
		}
	}
	password, err := getPassword(c, e, true)
	if err != nil {
		return err
	}
	key, err := sign.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	file, err := key.Marshal(password)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteNew(private, file, 0o600); err != nil {
		return err
	}
	if err := atomicfile.WriteNew(public, key.Public().PEM(), 0o644); err != nil {
		return errors.Join(err, os.Remove(private))
	}
	if e.json {
		return e.printJSON(keyAnswer{Schema: "tally.key/v1", KeyFile: private, PublicFile: public, KeyID: key.Public().ID().String()})
	}
	e.printf("private key %s\npublic key %s\nkey id %s\n", private, public, key.Public().ID())
	return nil
}

// releaseKeygenRef has a plug-in make the key.
func releaseKeygenRef(c *cli.Context, e *env) error {
	ref, public := c.String("key"), c.String("output")+".pub"
	if !kms.IsRef(ref) {
		return usagef("--key %q: want NAME://ID", ref)
	}
	if _, err := os.Lstat(public); err == nil {
		return fmt.Errorf("%s exists: a key is never overwritten", public)
	}
	key, err := kms.Create(c.Context, ref, e.stderr)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteNew(public, key.Public().PEM(), 0o644); err != nil {
		return fmt.Errorf("the key was made, its public half not written: %w", err)
	}
	if e.json {
		return e.printJSON(keyAnswer{Schema: "tally.key/v1", KeyRef: ref, PublicFile: public, KeyID: key.Public().ID().String()})
	}
	e.printf("private key %s\npublic key %s\nkey id %s\n", ref, public, key.Public().ID())
	return nil
}

const passwordHelp = "The password comes from --password-file (its first line), else the environment variable COSIGN_PASSWORD, else the\n" +
	"terminal. A new key without a password has to be asked for by --insecure-no-password."

const keyRefHelp = "A key NAME://ID stays where it is: in a cloud's key service, an HSM (pkcs11), a TPM (tpm). The program sigstore-kms-NAME on PATH, a plug-in\n" +
	"in sigstore's protocol, signs with it and takes what it needs (PIN, credentials) from its environment."

func passwordFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "password-file", Usage: "read the key's password from the first line of `FILE`"},
		&cli.BoolFlag{Name: "insecure-no-password", Usage: "the key has an empty password"},
	}
}

// getPassword finds the password of a key file. For a new key it must not be empty by accident.
func getPassword(c *cli.Context, e *env, fresh bool) ([]byte, error) {
	file, none := c.String("password-file"), c.Bool("insecure-no-password")
	if file != "" && none {
		return nil, usagef("--password-file and --insecure-no-password exclude each other")
	}
	if none {
		return nil, nil
	}
	var password []byte
	var err error
	if env, ok := os.LookupEnv("COSIGN_PASSWORD"); file != "" {
		if password, err = readSmall(file, maxKeyFile); err == nil {
			password, _, _ = bytes.Cut(password, []byte("\n"))
			password = bytes.TrimSuffix(password, []byte("\r"))
		}
	} else if ok {
		password = []byte(env)
	} else {
		password, err = promptPassword(e, fresh)
	}
	if err == nil && fresh && len(password) == 0 {
		err = withHint(usagef("the password is empty"), "--insecure-no-password makes a key without one")
	}
	return password, err
}

// promptPassword asks on the terminal, twice for a new key.
func promptPassword(e *env, fresh bool) ([]byte, error) {
	f, ok := e.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, withHint(usagef("no password: stdin is not a terminal"), "give --password-file FILE or set COSIGN_PASSWORD")
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(e.stderr, prompt)
		defer fmt.Fprintln(e.stderr)
		return term.ReadPassword(int(f.Fd()))
	}
	first, err := ask("Password of the key: ")
	if err != nil || !fresh {
		return first, err
	}
	again, err := ask("Again: ")
	if err == nil && !bytes.Equal(first, again) {
		err = errors.New("the two passwords differ")
	}
	return first, err
}

// maxKeyFile is the size in bytes above which a key or a password is none.
const maxKeyFile = 64 << 10

// loadKey opens the signing key that --key names, a file or a reference NAME://ID.
func loadKey(c *cli.Context, e *env) (sign.Signer, error) {
	path := c.String("key")
	if kms.IsRef(path) {
		return kms.Open(c.Context, path, e.stderr)
	}
	data, err := readSmall(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	password, err := getPassword(c, e, false)
	if err != nil {
		return nil, err
	}
	key, err := sign.ParseKey(data, password)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}
