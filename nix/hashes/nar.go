package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// hashPath is the SHA-256 of path's Nix archive (NAR) in the form of Subresource Integrity: what Nix calls a
// recursive hash. The archive is a sequence of strings, each a 64-bit little-endian length, the bytes, and
// zeros up to a multiple of eight (E. Dolstra, The Purely Functional Software Deployment Model, 5.2).
func hashPath(path string) (string, error) {
	h := sha256.New()
	w := &narWriter{w: bufio.NewWriterSize(h, 1<<16)}
	w.str("nix-archive-1")
	if err := w.node(path); err != nil {
		return "", err
	}
	if err := w.w.Flush(); err != nil {
		return "", err
	}
	return "sha256-" + base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// A narWriter writes to a hash, which takes everything: a bufio.Writer keeps the first error for Flush.
type narWriter struct{ w *bufio.Writer }

func (n *narWriter) str(words ...string) {
	for _, s := range words {
		n.length(int64(len(s)))
		n.w.WriteString(s)
		n.pad(int64(len(s)))
	}
}

func (n *narWriter) length(l int64) {
	n.w.Write(binary.LittleEndian.AppendUint64(nil, uint64(l)))
}

func (n *narWriter) pad(l int64) { n.w.Write(make([]byte, (8-l%8)%8)) }

func (n *narWriter) node(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	n.str("(", "type")
	switch mode := info.Mode(); {
	case mode.IsRegular():
		n.str("regular")
		if mode&0o100 != 0 {
			n.str("executable", "")
		}
		n.str("contents")
		if err := n.contents(path, info.Size()); err != nil {
			return err
		}
	case mode.IsDir():
		n.str("directory")
		entries, err := os.ReadDir(path) // sorted bytewise, as the archive wants it
		if err != nil {
			return err
		}
		for _, e := range entries {
			n.str("entry", "(", "name", e.Name(), "node")
			if err := n.node(filepath.Join(path, e.Name())); err != nil {
				return err
			}
			n.str(")")
		}
	case mode&os.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		n.str("symlink", "target", target)
	default:
		return fmt.Errorf("%s: neither file, directory nor symbolic link", path)
	}
	n.str(")")
	return nil
}

func (n *narWriter) contents(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n.length(size)
	if m, err := io.Copy(n.w, f); err != nil {
		return err
	} else if m != size {
		return fmt.Errorf("%s: changed while it was read", path)
	}
	n.pad(size)
	return nil
}
