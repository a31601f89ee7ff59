package channel

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"github.com/flynn/noise"
)

// aesGCM is Noise's AESGCM (rev. 34, section 12.4). Unlike the library's own it allocates nothing for a record:
// under package erase every allocation costs more than the encryption of a short one.
type aesGCM struct{}

func (aesGCM) CipherName() string { return "AESGCM" }

// Cipher returns the cipher for a key. A Cipher is for one CipherState, and not for concurrent use.
func (aesGCM) Cipher(key [32]byte) noise.Cipher {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has GCM's block size
	}
	return &gcmCipher{aead: aead}
}

type gcmCipher struct {
	aead  cipher.AEAD
	nonce [12]byte // 4 zeros, then the counter
}

func (c *gcmCipher) Encrypt(out []byte, n uint64, ad, plaintext []byte) []byte {
	binary.BigEndian.PutUint64(c.nonce[4:], n)
	return c.aead.Seal(out, c.nonce[:], plaintext, ad)
}

func (c *gcmCipher) Decrypt(out []byte, n uint64, ad, ciphertext []byte) ([]byte, error) {
	binary.BigEndian.PutUint64(c.nonce[4:], n)
	return c.aead.Open(out, c.nonce[:], ciphertext, ad)
}
