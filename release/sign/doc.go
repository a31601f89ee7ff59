// Package sign makes signed, not yet logged, releases: it keeps signing keys in cosign's encrypted file
// format, reads a build's output directory, and signs the statement about it.
//
// The key file is a PEM block "ENCRYPTED SIGSTORE PRIVATE KEY" whose body is the JSON of
// securesystemslib's encrypted package (scrypt and NaCl secretbox) around a PKCS #8 key; the public key is
// a PEM block "PUBLIC KEY". `cosign sign-blob --key` reads the one, `cosign verify-blob --key` the other.
//
// Signatures by key files are deterministic (RFC 6979): signing the same release twice gives one bundle.
// Other keys ([Signer]; package kms) choose nonces of their own, so that the two bundles differ; they are one
// release all the same, since publishing goes by payload and signer.
package sign
