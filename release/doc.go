// Package release verifies what a maintainer releases: an in-toto statement about one built image, signed
// in a DSSE envelope, logged in a transparency log, carried in one Sigstore bundle that verifies offline.
//
// This package is what every client links: the standard library and the tile-log arithmetic of
// golang.org/x/mod, nothing else. It opens no file and no connection and reads no clock; whoever calls it
// passes bytes and a time. Signing, logging and publishing live in the packages below it.
//
// The formats stand in SPEC.md beside this file. In short, a bundle proves
//
//	payload  --signed by-->  a key that the Policy names
//	entry    =  SHA-256 of the envelope's pre-authentication encoding + that signature + that key
//	entry    --included in-->  a tree whose checkpoint is signed by the log that the Policy names
//	payload  =  a statement whose parts agree with each other
//
// and [Verify] checks these in that order, rebuilding each value from what it has already verified and
// never believing a copy. A zero [Policy] rejects everything.
package release
