package deb

import (
	_ "embed"
	"sync"
)

// debianArchive holds the archive keys of Debian 12 and 13 (stable, automatic, security), exported from
// Debian's package debian-archive-keyring, whose copyright file says that the keys fall under no copyright. They are pinned
// here, so that a build does not trust the machine's own keyring.
//
//go:embed debian-archive.asc
var debianArchive []byte

// DebianKeyring returns the pinned Debian archive keys.
var DebianKeyring = sync.OnceValues(func() (Keyring, error) { return ReadKeyring(debianArchive) })
