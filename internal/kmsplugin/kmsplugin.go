// Package kmsplugin is the plug-in's side of sigstore's key plug-in protocol v1 (the client's side, with the
// format, is tally/release/sign/kms) for keys of the one kind that releases are signed with: ECDSA on P-256 over
// SHA-256. A program that serves a Store this way is used by tally and by cosign alike.
package kmsplugin

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/sigstore/sigstore/pkg/signature/kms/cliplugin/common"
)

// Algorithm is the one algorithm, by the name that sigstore's key services use.
const Algorithm = "ecdsa-p256-sha256"

// maxArgs is the size in bytes above which the request is refused unread.
const maxArgs = 64 << 10

// A Store has keys by reference, the ID of NAME://ID.
type Store interface {
	// Public returns the public half of a key.
	Public(ref string) (*ecdsa.PublicKey, error)

	// Sign signs a SHA-256 digest and returns ASN.1 DER.
	Sign(ref string, digest []byte) ([]byte, error)

	// Create makes a key where there is none yet.
	Create(ref string) (*ecdsa.PublicKey, error)
}

// Main answers the request in args (os.Args) and returns the exit code: 0, or 1 after an answer that is an error.
func Main(args []string, stdin io.Reader, stdout io.Writer, s Store) int {
	resp, err := answer(args, stdin, s)
	code := 0
	if err != nil {
		resp, code = &common.PluginResp{ErrorMessage: err.Error()}, 1
	}
	if err := json.NewEncoder(stdout).Encode(resp); err != nil {
		return 1
	}
	return code
}

func answer(args []string, stdin io.Reader, s Store) (*common.PluginResp, error) {
	a, err := parse(args)
	if err != nil {
		return nil, err
	}
	ref := a.InitOptions.KeyResourceID
	switch a.MethodName {
	case common.DefaultAlgorithmMethodName:
		return &common.PluginResp{DefaultAlgorithm: &common.DefaultAlgorithmResp{DefaultAlgorithm: Algorithm}}, nil
	case common.SupportedAlgorithmsMethodName:
		return &common.PluginResp{SupportedAlgorithms: &common.SupportedAlgorithmsResp{SupportedAlgorithms: []string{Algorithm}}}, nil
	case common.CreateKeyMethodName:
		if a.CreateKey == nil || a.CreateKey.Algorithm != Algorithm {
			return nil, fmt.Errorf("createKey: want algorithm %q", Algorithm)
		}
		text, err := publicPEM(s.Create(ref))
		return &common.PluginResp{CreateKey: &common.CreateKeyResp{PublicKeyPEM: text}}, err
	case common.PublicKeyMethodName:
		text, err := publicPEM(s.Public(ref))
		return &common.PluginResp{PublicKey: &common.PublicKeyResp{PublicKeyPEM: text}}, err
	case common.SignMessageMethodName:
		return sign(a, stdin, s)
	case common.VerifySignatureMethodName:
		return verify(a, stdin, s)
	}
	return nil, fmt.Errorf("method %.64q: not known", a.MethodName)
}

func parse(args []string) (*common.PluginArgs, error) {
	switch {
	case len(args) != 3:
		return nil, errors.New("this is a key plug-in: it is run by tally or cosign for --key NAME://ID")
	case args[1] != common.ProtocolVersion:
		return nil, fmt.Errorf("protocol %.32q, want %q", args[1], common.ProtocolVersion)
	case len(args[2]) > maxArgs:
		return nil, fmt.Errorf("request has %d bytes, want at most %d", len(args[2]), maxArgs)
	}
	a := common.PluginArgs{MethodArgs: new(common.MethodArgs)}
	if err := json.Unmarshal([]byte(args[2]), &a); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if a.InitOptions == nil || a.InitOptions.HashFunc != crypto.SHA256 {
		return nil, errors.New("request: want initOptions with SHA-256 as hashFunc")
	}
	return &a, nil
}

func sign(a *common.PluginArgs, stdin io.Reader, s Store) (*common.PluginResp, error) {
	var m common.MessageOptions
	if a.SignMessage != nil && a.SignMessage.SignOptions != nil {
		m = a.SignMessage.SignOptions.MessageOptions
	}
	d, err := digest(m, stdin)
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(a.InitOptions.KeyResourceID, d)
	return &common.PluginResp{SignMessage: &common.SignMessageResp{Signature: sig}}, err
}

func verify(a *common.PluginArgs, stdin io.Reader, s Store) (*common.PluginResp, error) {
	if a.VerifySignature == nil {
		return nil, errors.New("verifySignature: want a signature")
	}
	var m common.MessageOptions
	if o := a.VerifySignature.VerifyOptions; o != nil {
		m = o.MessageOptions
	}
	d, err := digest(m, stdin)
	if err != nil {
		return nil, err
	}
	pub, err := s.Public(a.InitOptions.KeyResourceID)
	if err == nil && !ecdsa.VerifyASN1(pub, d, a.VerifySignature.Signature) {
		err = errors.New("the signature does not verify")
	}
	return &common.PluginResp{VerifySignature: &common.VerifySignatureResp{}}, err
}

// digest returns the digest that the request gives, else that of the message on stdin.
func digest(m common.MessageOptions, stdin io.Reader) ([]byte, error) {
	if m.HashFunc != nil && *m.HashFunc != crypto.SHA256 {
		return nil, errors.New("request: want SHA-256 as hashFunc")
	}
	if m.Digest != nil {
		if len(*m.Digest) != sha256.Size {
			return nil, fmt.Errorf("request: digest has %d bytes, want %d", len(*m.Digest), sha256.Size)
		}
		return *m.Digest, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, stdin); err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	return h.Sum(nil), nil
}

func publicPEM(pub *ecdsa.PublicKey, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}
