//go:build unix

// Command sigstore-kms-tpm is a key plug-in (protocol: tally/internal/kmsplugin) for ECDSA P-256 keys that were made
// in a TPM 2.0 and cannot leave it. A key reference is
//
//	tpm://HANDLE            a persistent handle in hex, 81000000 to 817fffff, of the TPM at /dev/tpmrm0
//	tpm://HANDLE@PATH       of the TPM at PATH: a device, or the UNIX socket of swtpm's data channel
//
// Making a key takes the owner's authorization, TPM_OWNER_AUTH; TPM_KEY_AUTH is the key's own, asked for at every
// signature. Both are environment variables and empty unless set. A wrong one counts as an attack: the TPM locks
// the key for a while after a few.
package main

import (
	"os"

	"tally/internal/kmsplugin"
)

func main() {
	s := &store{ownerAuth: []byte(os.Getenv("TPM_OWNER_AUTH")), keyAuth: []byte(os.Getenv("TPM_KEY_AUTH"))}
	os.Exit(kmsplugin.Main(os.Args, os.Stdin, os.Stdout, s))
}
