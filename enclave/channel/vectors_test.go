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

// TestNoiseVectors holds noise with our DH to the vectors of two other implementations, in both patterns
// that the package speaks, the PSK set late as Hybrid does.
func TestNoiseVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/noise.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []noiseVector }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	patterns := map[string]int{}
	for _, v := range file.Vectors {
		t.Run(v.File+" "+v.Name, func(t *testing.T) { runVector(t, v) })
		patterns[v.Name]++
	}
	if patterns["Noise_XX_25519_AESGCM_SHA256"] != 2 || patterns["Noise_XXpsk3_25519_AESGCM_SHA256"] != 1 {
		t.Errorf("vectors run: %v", patterns)
	}
}

func vectorSide(t *testing.T, v noiseVector, initiator bool) *noise.HandshakeState {
	t.Helper()
	scalar, ephemeral, pro := v.InitStatic, v.InitEphemeral, v.InitPrologue
	if !initiator {
		scalar, ephemeral, pro = v.RespStatic, v.RespEphemeral, v.RespPrologue
	}
	priv, err := ecdh.X25519().NewPrivateKey(scalar)
	if err != nil {
		t.Fatal(err)
	}
	static := &StaticKey{priv}
	c := noise.Config{
		CipherSuite: noise.NewCipherSuite(&dh{static: priv}, noise.CipherAESGCM, noise.HashSHA256),
		Random:      bytes.NewReader(ephemeral), Pattern: noise.HandshakeXX, Initiator: initiator, Prologue: pro, StaticKeypair: static.noise(),
	}
	if len(v.InitPSKs) == 1 {
		c.PresharedKeyPlacement = 3
	}
	hs, err := noise.NewHandshakeState(c)
	if err != nil {
		t.Fatal(err)
	}
	return hs
}

func runVector(t *testing.T, v noiseVector) {
	sides := [2]*noise.HandshakeState{vectorSide(t, v, true), vectorSide(t, v, false)}
	var write, read [2]*noise.CipherState // by the side that writes
	for i, m := range v.Messages {
		from, to := i%2, 1-i%2
		var ct, pt []byte
		var err error
		if i < 3 {
			if i == 2 && len(v.InitPSKs) == 1 {
				sides[0].SetPresharedKey(v.InitPSKs[0])
				sides[1].SetPresharedKey(v.RespPSKs[0])
			}
			var a, b, c, d *noise.CipherState
			if ct, a, b, err = sides[from].WriteMessage(nil, m.Payload); err != nil {
				t.Fatal(err)
			}
			if pt, c, d, err = sides[to].ReadMessage(nil, ct); err != nil {
				t.Fatal(err)
			}
			if i == 2 { // both sides get (initiator's, responder's)
				write, read = [2]*noise.CipherState{a, d}, [2]*noise.CipherState{c, b}
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
