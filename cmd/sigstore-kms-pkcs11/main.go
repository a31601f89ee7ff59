// Command sigstore-kms-pkcs11 is a key plug-in (protocol: tally/internal/kmsplugin) for ECDSA P-256 keys in whatever
// speaks PKCS #11: hardware security modules, smart cards, SoftHSM. It loads the maker's module into its process,
// which takes cgo; so it is a program of its own and built by
//
//	CGO_ENABLED=1 go build -tags pkcs11 ./cmd/sigstore-kms-pkcs11
//
// Without that tag it is a program that says so. A key reference is made of the attributes of RFC 7512 that say
// which key it is, and none that is a secret:
//
//	pkcs11://token=LABEL;object=LABEL[;id=%01][?module-path=/usr/lib/softhsm/libsofthsm2.so]
//
// The module may also be named by the environment variable PKCS11_MODULE; the PIN is PKCS11_PIN. After a few wrong
// ones most tokens lock themselves.
package main

import (
	"os"

	"tally/internal/kmsplugin"
)

func main() {
	os.Exit(kmsplugin.Main(os.Args, os.Stdin, os.Stdout, newStore(os.Getenv("PKCS11_MODULE"), os.Getenv("PKCS11_PIN"))))
}
