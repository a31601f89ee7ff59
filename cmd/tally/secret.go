package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"tally/enclave/secrets"
	"tally/internal/cli"
)

func secretCommand(e *env) *cli.Command {
	return &cli.Command{Name: "secret", Usage: "secrets of an enclave's engine", Subcommands: []*cli.Command{secretSendCommand(e)}}
}

func secretSendCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "send", Usage: "give an attested enclave the secrets that its engine waits for", ArgsUsage: "TARGET NAME=FILE...",
		Flags: append(sessionFlags(&cli.StringFlag{Name: "key", Usage: "operator's key, a `FILE` (tally release keygen) or NAME://ID: the one that the enclave's configuration names"}),
			passwordFlags()...),
		Description: "The release is verified and the enclave appraised as by 'tally connect'. Then the contents of each FILE (- for stdin) go to it as the secret\n" +
			"NAME, byte for byte, in one message that the key signs for this session and this enclave alone. An enclave whose measured configuration has\n" +
			"a section secrets starts its engine when it has all of them, as /run/secrets/NAME. It takes them once: to change them, start the guest anew.\n" +
			"A value has at most 65536 bytes, all together 262144. Values are no arguments, and are printed nowhere.\n" + passwordHelp + "\n" + keyRefHelp + "\n" +
			"Exit 0: the enclave has taken them. Exit 1 also: it refuses them; stderr has its word (signature, unknown name, missing name, oversize,\n" +
			"again, …), or says that it asks for none.\n" + sessionReasons +
			"--json prints tally.secrets/v1: connection (tally.connection/v1), sent (names), operator (SHA-256 of the key's SubjectPublicKeyInfo).\n\n" +
			"   tally secret send enclave.example:8443 --policy policy.yaml --bundle llama.sigstore.json --key operator.key hf-token=token.txt",
		Action: func(c *cli.Context) error { return secretSend(c, e) },
	}
}

// A secretsAnswer is tally.secrets/v1.
type secretsAnswer struct {
	Schema     string         `json:"schema"`
	Connection *connectAnswer `json:"connection"`
	Sent       []string       `json:"sent"`
	Operator   string         `json:"operator"`
}

func secretSend(c *cli.Context, e *env) error {
	if c.NArg() < 2 {
		return usagef("%s wants arguments: TARGET NAME=FILE...; got %d", c.Command.Name, c.NArg())
	}
	if !c.IsSet("key") {
		return usagef("send wants --key FILE or NAME://ID: the operator's key that the enclave's configuration names")
	}
	names, files, err := secretArgs(c.Args().Tail(), c.String("bundle") == "-")
	if err != nil {
		return err
	}
	a, err := newAttestedAt(c, e, c.Args().First())
	if err != nil {
		return err
	}
	key, err := loadKey(c, e)
	if err != nil {
		return err
	}
	list, err := readSecrets(e, names, files)
	defer secrets.Erase(list)
	if err != nil {
		return err
	}
	s, answer, err := a.first(c.Context)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	if err := s.SendSecrets(ctx, list, key.SignPAE); err != nil {
		_ = s.Close(ctx) // err says why there is no answer
		return secretsRefused(notAccepted(e, answer, err), key.Public().ID().String())
	}
	if err := s.Close(ctx); err != nil { // the answer came whole, with its own authenticated end
		e.logf("the enclave may not have seen the session end: %v", err)
	}
	if e.json {
		return e.printJSON(secretsAnswer{"tally.secrets/v1", answer, names, key.Public().ID().String()})
	}
	answer.Sent = names
	return printConnection(e, answer)
}

// secretArgs reads NAME=FILE.... stdin is one file at most.
func secretArgs(args []string, stdin bool) (names, files []string, err error) {
	for i, arg := range args {
		name, file, ok := strings.Cut(arg, "=")
		switch {
		case !ok || file == "":
			return nil, nil, usagef("argument %d: want NAME=FILE, or NAME=- for stdin", i+2) // unquoted: it may be a value
		case secrets.CheckName(name) != nil:
			return nil, nil, usagef("%w", secrets.CheckName(name))
		case slices.Contains(names, name):
			return nil, nil, usagef("secret %s: given twice", name)
		case file == "-" && stdin:
			return nil, nil, usagef("secret %s: stdin is read already", name)
		}
		stdin = stdin || file == "-"
		names, files = append(names, name), append(files, file)
	}
	return names, files, nil
}

// readSecrets reads the values; also with an error, what it has read is returned, to be erased.
func readSecrets(e *env, names, files []string) (list []secrets.Secret, err error) {
	for i, name := range names {
		in := e.stdin
		if files[i] != "-" {
			f, err := os.Open(files[i])
			if err != nil {
				return list, fmt.Errorf("secret %s: %w", name, err)
			}
			defer f.Close()
			in = f
		}
		b := make([]byte, secrets.MaxValue+1) // of the final size: growing would leave copies
		list = append(list, secrets.Secret{Name: name, Value: b})
		n, err := io.ReadFull(in, b)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return list, fmt.Errorf("secret %s: %w", name, err)
		}
		if n == 0 || n > secrets.MaxValue {
			return list, fmt.Errorf("secret %s: %s is empty or has more than %d bytes", name, files[i], secrets.MaxValue)
		}
		list[i].Value = b[:n]
		if bytes.HasSuffix(b[:n], []byte("\n")) && bytes.Count(b[:n], []byte("\n")) == 1 {
			e.logf("secret %s: the newline at its end is sent, too", name)
		}
	}
	return list, nil
}

// secretsRefused says what the user may do.
func secretsRefused(err error, keyID string) error {
	var no *secrets.RefusedError
	switch {
	case errors.Is(err, secrets.ErrNotAsked):
		return withHint(secrets.ErrNotAsked, "the image's configuration needs a section secrets")
	case errors.As(err, &no) && no.Code == secrets.BadSignature:
		return withHint(err, "--key is the key with the ID %s", keyID)
	case errors.As(err, &no) && no.Code == secrets.Again:
		return withHint(err, "start the guest anew to give it others")
	}
	return err
}
