// Package deb reads Debian's formats: signed indexes, package lists, versions, dependencies and binary
// packages. It runs no maintainer script and needs no root; a package is a list of files.
//
// Everything here reads foreign bytes: every reader has a cap, and an error names what was expected.
package deb
