// Package deb reads Debian's formats: signed indexes, package lists, versions, dependencies and binary
// packages. It runs no maintainer script and needs no root; a package is a list of files.
//
// What it reads, and by what description:
//
//	InRelease       clear-signed list of index files       RFC 9580 section 7; Debian wiki, RepositoryFormat
//	Packages        one stanza for each package            Debian Policy 5
//	versions        [epoch:]upstream[-revision]            Debian Policy 5.6.12, deb-version(7)
//	dependencies    a | b (>= 1), c                        Debian Policy 7
//	.deb            ar of debian-binary, control.tar*,     deb(5)
//	                data.tar*; plain, gz, xz or zst
//
// Which packages a set of names needs, a [Resolver] says, as the apt of Debian 13 does.
//
// The chain of trust is one of hashes: a pinned key signs InRelease ([VerifyInRelease]), which has the SHA-256 of
// each package list, which has that of each package ([ParseIndex]), without which [Unpack] reads nothing.
//
// Everything here reads foreign bytes all the same: every reader has a cap, what a reader does not know it
// refuses, and an error names what was expected. A package may not bring device nodes, sockets, fifos or
// sparse files, climb out of the root with a path or a hard link, or name a path twice; owners, modes with
// setuid and setgid, security.capability and user.* attributes are taken as they are. Which packages fit
// together in one tree is for [tally/mkimage/tree] to say: a package with files in /lib beside one with a
// symlink /lib (merged /usr) is an error there.
package deb
