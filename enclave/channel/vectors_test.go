package channel

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/flynn/noise"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

type noiseVector struct {
	File          string
	Name          string     `json:"protocol_name"`
	NameC         string     `json:"name"` // noise-c's word for it
	InitRemote    hexBytes   `json:"init_remote_static"`
	InitPrologue  hexBytes   `json:"init_prologue"`
	InitPSKs      []hexBytes `json:"init_psks"`
	InitStatic    hexBytes   `json:"init_static"`
	InitEphemeral hexBytes   `json:"init_ephemeral"`
	RespPrologue  hexBytes   `json:"resp_prologue"`
	RespPSKs      []hexBytes `json:"resp_psks"`
	RespStatic    hexBytes   `json:"resp_static"`
	RespEphemeral hexBytes   `json:"resp_ephemeral"`
	HandshakeHash hexBytes   `json:"handshake_hash"`
	Messages      []struct{ Payload, Ciphertext hexBytes }
}

// vectorKinds says which kind speaks a protocol, and how many vectors there are.
var vectorKinds = map[string]struct {
	kind  Kind
	count int
}{
	"Noise_XX_25519_AESGCM_SHA256":         {Classical, 4},
	"Noise_XXpsk3_25519_AESGCM_SHA256":     {Hybrid, 1},
	"Noise_IK_25519_AESGCM_SHA256":         {ClassicalReconnect, 4},
	"Noise_IKpsk2_25519_AESGCM_SHA256":     {HybridReconnect, 1},
	"Noise_XXfallback_25519_AESGCM_SHA256": {ClassicalFallback, 1},
}

// TestNoiseVectors holds noise with our DH and our table of patterns to the vectors of three other
// implementations, the PSK set late where Hybrid does so.
func TestNoiseVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/noise.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []noiseVector }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for _, v := range file.Vectors {
		if v.Name == "" {
			v.Name = v.NameC
		}
		kind := vectorKinds[v.Name].kind
		t.Run(v.File+" "+v.Name, func(t *testing.T) {
			if kind == ClassicalFallback {
				runFallback(t, v)
				return
			}
			runVector(t, v, [2]*noise.HandshakeState{vectorSide(t, v, kind, true, noise.Config{PeerStatic: v.InitRemote}), vectorSide(t, v, kind, false, noise.Config{})})
		})
		ran[v.Name]++
	}
	for name, want := range vectorKinds {
		if ran[name] != want.count {
			t.Errorf("%s: %d vectors run, want %d", name, ran[name], want.count)
		}
	}
}

// vectorSide makes the state of one side; Noise's initiator is the client but in a fallback.
func vectorSide(t *testing.T, v noiseVector, kind Kind, client bool, c noise.Config) *noise.HandshakeState {
	t.Helper()
	scalar, ephemeral, pro, psks := v.InitStatic, v.InitEphemeral, v.InitPrologue, v.InitPSKs
	if !client {
		scalar, ephemeral, pro, psks = v.RespStatic, v.RespEphemeral, v.RespPrologue, v.RespPSKs
	}
	priv, err := ecdh.X25519().NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	d := &dh{static: priv}
	if len(c.EphemeralKeypair.Private) > 0 {
		if d.ephemeral, err = ecdh.X25519().NewPrivateKey(c.EphemeralKeypair.Private); err != nil {
			t.Fatal(err)
		}
	}
	c.CipherSuite = noise.NewCipherSuite(d, aesGCM{}, noise.HashSHA256)
	c.Random, c.Prologue, c.StaticKeypair = bytes.NewReader(ephemeral), pro, (&StaticKey{priv}).noise()
	c.Initiator = client == (kind != ClassicalFallback)
	kind.pattern(&c)
	hs, err := noise.NewHandshakeState(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(psks) == 1 {
		if err := hs.SetPresharedKey(psks[0]); err != nil {
			t.Fatal(err)
		}
	}
	return hs
}

// runFallback is IK with a key that the server does not have, and then XXfallback, in which the server
// speaks first.
func runFallback(t *testing.T, v noiseVector) {
	ik := vectorSide(t, v, ClassicalReconnect, true, noise.Config{PeerStatic: v.InitRemote})
	first, _, _, err := ik.WriteMessage(nil, v.Messages[0].Payload)
	if err != nil || !bytes.Equal(first, v.Messages[0].Ciphertext) {
		t.Fatalf("IK: %x, %v", first, err)
	}
	if _, _, _, err := vectorSide(t, v, ClassicalReconnect, false, noise.Config{}).ReadMessage(nil, first); err == nil {
		t.Fatal("IK with another key succeeds")
	}
	server := vectorSide(t, v, ClassicalFallback, false, noise.Config{PeerEphemeral: first[:32]})
	client := vectorSide(t, v, ClassicalFallback, true, noise.Config{EphemeralKeypair: ik.LocalEphemeral()})
	v.Messages = v.Messages[1:]
	runVector(t, v, [2]*noise.HandshakeState{server, client})
}

// runVector has two sides, the one that speaks first in front, say what the vector says.
func runVector(t *testing.T, v noiseVector, sides [2]*noise.HandshakeState) {
	var write, read [2]*noise.CipherState // by the side that writes
	for i, m := range v.Messages {
		from, to := i%2, 1-i%2
		var ct, pt []byte
		var err error
		if write[0] == nil {
			var a, b, c, d *noise.CipherState
			if ct, a, b, err = sides[from].WriteMessage(nil, m.Payload); err != nil {
				t.Fatal(err)
			}
			if pt, c, d, err = sides[to].ReadMessage(nil, ct); err != nil {
				t.Fatal(err)
			}
			if a != nil { // both sides get (initiator's, responder's)
				w, r := [2]*noise.CipherState{a, b}, [2]*noise.CipherState{c, d}
				if from == 0 {
					write, read = [2]*noise.CipherState{w[0], r[1]}, [2]*noise.CipherState{r[0], w[1]}
				} else {
					write, read = [2]*noise.CipherState{r[0], w[1]}, [2]*noise.CipherState{w[0], r[1]}
				}
				if len(v.HandshakeHash) > 0 && !bytes.Equal(sides[0].ChannelBinding(), v.HandshakeHash) {
					t.Errorf("handshake hash %x, want %x", sides[0].ChannelBinding(), v.HandshakeHash)
				}
			}
		} else {
			if ct, err = write[from].Encrypt(nil, nil, m.Payload); err != nil {
				t.Fatal(err)
			}
			if pt, err = read[from].Decrypt(nil, nil, ct); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(ct, m.Ciphertext) || !bytes.Equal(pt, m.Payload) {
			t.Fatalf("message %d: %x, want %x", i, ct, m.Ciphertext)
		}
	}
}
