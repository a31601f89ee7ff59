// Package kms signs with keys that are not in a file: in a cloud's key service, a hardware security module, a
// TPM. It speaks the client's side of sigstore's plug-in protocol, so that none of those is linked here and every
// plug-in written for cosign works.
//
// A key reference is NAME://ID. NAME names the program sigstore-kms-NAME, found on PATH, and ID is
// what that program is asked for. One call is one run of it (protocol v1,
// github.com/sigstore/sigstore, pkg/signature/kms/cliplugin/README.md):
//
//	sigstore-kms-NAME v1 '{"initOptions":{"protocolVersion":"v1","keyResourceID":"ID","hashFunc":5,…},
//	                       "methodName":"signMessage","signMessage":{…}}'   < message   > response
//
// with the response {"signMessage":{"signature":"BASE64"}} or {"errorMessage":"…"} on its stdout. What it writes to
// stderr is for the person at the terminal (a PIN prompt, a request to touch the key). Secrets reach it through its
// environment, never through arguments.
package kms

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"

	"tally/internal/pattern"
	"tally/release"
)

const (
	prefix      = "sigstore-kms-"
	algorithm   = "ecdsa-p256-sha256" // as sigstore's key services name it
	maxRef      = 1024
	maxResponse = 64 << 10
	maxWait     = 2 * time.Minute // for one run, a person's touch of the key included
)

// ErrPlugin means that a plug-in answered, and its answer was an error or no answer.
var ErrPlugin = errors.New("key plug-in")

var refForm = pattern.New(`^([a-z][a-z0-9-]{0,63})://([[:graph:]]+)$`)

// IsRef reports whether s has the form of a key reference rather than of a file's path.
func IsRef(s string) bool { return len(s) <= maxRef && refForm.MatchString(s) }

// A Key is a key behind a plug-in; it is a sign.Signer. It is usable as long as the context of Open.
type Key struct {
	plugin *plugin
	pub    release.PublicKey
}

// Open asks the plug-in that ref names for the public key. Messages of the plug-in to a person go to talk.
func Open(ctx context.Context, ref string, talk io.Writer) (*Key, error) {
	p, err := find(ctx, ref, talk)
	if err != nil {
		return nil, err
	}
	r, err := p.call(common.MethodArgs{MethodName: common.PublicKeyMethodName, PublicKey: &common.PublicKeyArgs{PublicKeyOptions: &common.PublicKeyOptions{}}}, nil)
	if err != nil {
		return nil, err
	}
	if r.PublicKey == nil {
		return nil, p.errorf("the response has no publicKey")
	}
	pub, err := release.ParsePublicKey(r.PublicKey.PublicKeyPEM)
	if err != nil {
		return nil, p.errorf("%w", err)
	}
	return &Key{p, pub}, nil
}

// Create has the plug-in make a key under ref, which must not name one yet, and opens it.
func Create(ctx context.Context, ref string, talk io.Writer) (*Key, error) {
	p, err := find(ctx, ref, talk)
	if err != nil {
		return nil, err
	}
	r, err := p.call(common.MethodArgs{MethodName: common.CreateKeyMethodName, CreateKey: &common.CreateKeyArgs{Algorithm: algorithm}}, nil)
	if err != nil {
		return nil, err
	}
	if r.CreateKey == nil {
		return nil, p.errorf("the response has no createKey")
	}
	pub, err := release.ParsePublicKey(r.CreateKey.PublicKeyPEM)
	if err != nil {
		return nil, p.errorf("%w", err)
	}
	return &Key{p, pub}, nil
}

// Public returns the public half, as it was when the key was opened.
func (k *Key) Public() release.PublicKey { return k.pub }

// SignPAE has the plug-in sign; see sign.Signer.
func (k *Key) SignPAE(pae []byte) ([]byte, error) {
	r, err := k.plugin.call(common.MethodArgs{MethodName: common.SignMessageMethodName, SignMessage: &common.SignMessageArgs{SignOptions: &common.SignOptions{}}}, pae)
	if err != nil {
		return nil, err
	}
	if r.SignMessage == nil {
		return nil, k.plugin.errorf("the response has no signMessage")
	}
	return r.SignMessage.Signature, nil
}

// A plugin is a program with the key that it is asked for.
type plugin struct {
	ctx      context.Context
	path, id string
	name     string
	talk     io.Writer
}

func find(ctx context.Context, ref string, talk io.Writer) (*plugin, error) {
	m := refForm.FindStringSubmatch(ref)
	if m == nil || len(ref) > maxRef {
		return nil, fmt.Errorf("key reference %.128q: want NAME://ID, NAME in lower case, at most %d bytes", ref, maxRef)
	}
	name := prefix + m[1]
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("key reference %.128q: no program %s on PATH: %w", ref, name, err)
	}
	return &plugin{ctx, path, m[2], name, talk}, nil
}

func (p *plugin) errorf(format string, args ...any) error {
	return fmt.Errorf("%w %s: %w", ErrPlugin, p.name, fmt.Errorf(format, args...))
}

// call runs the program once. It may end with any exit code so long as it answers.
func (p *plugin) call(m common.MethodArgs, message []byte) (*common.PluginResp, error) {
	ctx, cancel := context.WithTimeout(p.ctx, maxWait)
	defer cancel()
	deadline, _ := ctx.Deadline()
	args, err := json.Marshal(common.PluginArgs{
		InitOptions: &common.InitOptions{
			CtxDeadline: &deadline, ProtocolVersion: common.ProtocolVersion, KeyResourceID: p.id, HashFunc: crypto.SHA256, RPCOptions: &common.RPCOptions{},
		},
		MethodArgs: &m,
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, p.path, common.ProtocolVersion, string(args))
	out := &limited{left: maxResponse}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(message), out, p.talk, time.Second
	var exit *exec.ExitError
	if err := cmd.Run(); ctx.Err() != nil {
		return nil, p.errorf("%s: %w", m.MethodName, ctx.Err())
	} else if out.full {
		return nil, p.errorf("%s: the response has more than %d bytes", m.MethodName, maxResponse)
	} else if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 1) {
		return nil, p.errorf("%s: %w", m.MethodName, err)
	}
	var r common.PluginResp
	if err := json.Unmarshal(out.buf.Bytes(), &r); err != nil {
		return nil, p.errorf("%s: the response is no JSON object: %w", m.MethodName, err)
	}
	if r.ErrorMessage != "" {
		return nil, p.errorf("%s: %.512q", m.MethodName, r.ErrorMessage)
	}
	return &r, nil
}

// limited keeps what is written, up to a limit, and then fails the writer.
type limited struct {
	buf  bytes.Buffer
	left int
	full bool // something did not fit
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	if len(b) > l.left {
		l.full = true
		return 0, io.ErrShortWrite
	}
	l.left -= len(b)
	return l.buf.Write(b)
}
