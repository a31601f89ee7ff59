// Package treetest holds the fixture trees that the tests of several writers share.
package treetest

import (
	"bytes"
	"fmt"
	"strings"

	"tally/mkimage/tree"
)

// Epoch is the epoch of the fixtures: 2026-01-01.
const Epoch = 1767225600

// Pattern returns n bytes that differ from block to block.
func Pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i/256*13 + i/4096)
	}
	return b
}

// Fixture returns a tree with every kind of entry and every size class a writer treats apart. Its bytes
// are part of golden tests: changing it changes them. Entries are added in the given order, reversed when
// asked, which must make no difference.
func Fixture(reverse bool) (*tree.Tree, error) {
	entries := fixture()
	if reverse {
		for i, j := 0, len(entries)-1; i < j; i, j = i+1, j-1 {
			entries[i], entries[j] = entries[j], entries[i]
		}
	}
	t := tree.New()
	for _, e := range entries {
		if err := t.Add(e); err != nil {
			return nil, err
		}
	}
	return t, t.Complete()
}

func fixture() []tree.Entry {
	var es []tree.Entry
	for _, n := range []int{0, 1, 31, 1984, 2047, 2048, 2049, 4095, 4096, 4097, 8192, 100001} {
		e := tree.NewFile(fmt.Sprintf("size/%06d", n), 0o644, Pattern(n), "fixture")
		e.MTime = int64(n) * 1000
		es = append(es, e)
	}
	for i := range 1200 { // several directory blocks
		es = append(es, tree.NewFile(fmt.Sprintf("big/%s%04d", strings.Repeat("n", i%40), i), 0o600, []byte{byte(i)}, "fixture"))
	}
	caps := tree.NewFile("bin/ping", 0o4755, []byte("ping"), "fixture")
	caps.UID, caps.GID, caps.MTime = 70000, 1<<31+5, Epoch+86400 // beyond 16 bits; after the epoch
	caps.Xattrs = map[string][]byte{
		"security.capability":     {1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"user.note":               []byte("hello"),
		"user.empty":              nil,
		"trusted.overlay.opaque":  []byte("y"),
		"system.posix_acl_access": {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255},
	}
	wide := tree.NewFile("bin/wide", 0o755, Pattern(2000), "fixture")
	wide.Xattrs = map[string][]byte{"user.wide": bytes.Repeat([]byte("w"), 3000)} // leaves no room for a tail
	return append(es, caps, wide,
		tree.Entry{Path: "bin/pong", Kind: tree.HardLink, Link: "bin/ping", Source: "fixture"},
		tree.Entry{Path: "!early", Kind: tree.HardLink, Link: "bin/ping", Source: "fixture"}, // before "." and before its target
		tree.Entry{Path: "dev/null", Kind: tree.CharDev, Mode: 0o666, Major: 1, Minor: 3, Source: "fixture"},
		tree.Entry{Path: "dev/big", Kind: tree.BlockDev, Mode: 0o660, GID: 6, Major: 259, Minor: 0x12345, Source: "fixture"},
		tree.Entry{Path: "run/fifo", Kind: tree.FIFO, Mode: 0o640, Source: "fixture"},
		tree.Entry{Path: "lib", Kind: tree.Symlink, Mode: 0o777, Link: "usr/lib", Source: "fixture"},
		tree.Entry{Path: "long", Kind: tree.Symlink, Mode: 0o777, Link: strings.Repeat("/0123456789abcdef", 180), Source: "fixture"},
		tree.Entry{Path: "tmp", Kind: tree.Dir, Mode: 0o1777, MTime: -5, Source: "fixture"},
		tree.Entry{Path: "a-b", Kind: tree.Dir, Mode: 0o750, GID: 5, Source: "fixture"}, // sorts between "a" and "a/x"
		tree.NewFile("a/x", 0o444, []byte("x"), "fixture"),
		tree.NewFile("a-b/é \n\\", 0o444, []byte("odd name"), "fixture"),
		tree.NewFile("deep/"+strings.Repeat("d/", 60)+strings.Repeat("f", 255), 0o444, []byte("deep"), "fixture"),
	)
}
