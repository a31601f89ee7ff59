// Package keylesswire is what tally and the program tally-keyless say to each other. Certificates, timestamps and
// the protocols of their authorities take a large library, whose mere presence costs every command memory and
// time; it is linked by tally-keyless alone, which tally starts when a policy names identities or a release is signed
// without a key.
//
// The request is one JSON object on stdin, the reply one on stdout. Exit code 0 means that there is a reply.
package keylesswire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"tally/release"
)

// Program is the name of the program, found beside the caller's or on PATH.
const Program = "tally-keyless"

// MaxMessage bounds requests and replies, in bytes.
const MaxMessage = 16 << 20

// waitDelay is how long a program that was ended may keep its output open, by a process that it has started.
const waitDelay = time.Second

// verifyTime bounds a verification, which asks nobody.
const verifyTime = time.Minute

// A Request is what is asked: Op is verify, seal or ambient.
type Request struct {
	Op          string `json:"op"`
	Bundle      []byte `json:"bundle,omitempty"`       // verify: a bundle with a certificate
	TrustedRoot []byte `json:"trusted_root,omitempty"` // verify, seal
	Payload     []byte `json:"payload,omitempty"`      // seal
	Token       string `json:"token,omitempty"`        // seal
	FulcioURL   string `json:"fulcio_url,omitempty"`   // seal
	TSAURL      string `json:"tsa_url,omitempty"`      // seal
}

// A Reply is what came of it; Error is set, or what was asked for.
type Reply struct {
	Error     string             `json:"error,omitempty"`
	Certified *release.Certified `json:"certified,omitempty"` // verify, seal
	Bundle    []byte             `json:"bundle,omitempty"`    // seal
	Token     string             `json:"token,omitempty"`     // ambient
}

// Decode reads one message and nothing after it.
func Decode(r io.Reader, v any) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return err
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("message: more than %d bytes", MaxMessage)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("message: data after its end")
	}
	return nil
}

// Ask runs the program. An error in the reply is returned as it is; a program that cannot be run or does not answer
// is another.
func Ask(ctx context.Context, q Request) (*Reply, error) {
	path, err := find()
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, path)
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(in), waitDelay
	out, talk := limited{over: cancel}, limited{over: cancel}
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("%s: %w: %.500s", Program, err, strings.TrimSpace(talk.b.String()))
	}
	p := new(Reply)
	if err := Decode(&out.b, p); err != nil {
		return nil, fmt.Errorf("%s: reply: %w", Program, err)
	}
	if p.Error != "" {
		return nil, errors.New(p.Error)
	}
	return p, nil
}

// find looks beside the running program first: what came together stays together.
func find() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), Program)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(Program)
	if err != nil {
		return "", fmt.Errorf("%s: neither beside tally nor on PATH, and certificates are verified by it (make build makes both)", Program)
	}
	return path, nil
}

// limited is a buffer that takes no more than a message. It embeds none: io.Copy would take the buffer's ReadFrom, which has no end.
type limited struct {
	b    bytes.Buffer
	over context.CancelCauseFunc // ends the program
}

func (l *limited) Write(b []byte) (int, error) {
	if l.b.Len()+len(b) > MaxMessage {
		err := fmt.Errorf("more than %d bytes", MaxMessage)
		l.over(err)
		return 0, err
	}
	return l.b.Write(b)
}

// Verifier is a [release.CertificateVerifier] that asks the program.
type Verifier struct{}

// VerifyCertificate sees [release.CertificateVerifier].
func (Verifier) VerifyCertificate(b *release.Bundle, trustedRoot []byte) (*release.Certified, error) {
	data, err := b.Marshal()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), verifyTime)
	defer cancel()
	p, err := Ask(ctx, Request{Op: "verify", Bundle: data, TrustedRoot: trustedRoot})
	if err != nil {
		return nil, err
	}
	if p.Certified == nil {
		return nil, fmt.Errorf("%s: reply: says nothing about the certificate", Program)
	}
	return p.Certified, nil
}
