package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"tally/internal/atomicfile"
	"tally/verity"
)

// defaultSalt is the length in bytes of a salt that is not given, as veritysetup has it.
const defaultSalt = 32

func verityFormat(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DATA", "HASH"); err != nil {
		return err
	}
	p, err := verityParams(c)
	if err != nil {
		return err
	}
	if !c.IsSet("salt") {
		p.Salt = make([]byte, defaultSalt)
		rand.Read(p.Salt)
	}
	if !c.IsSet("uuid") {
		rand.Read(p.UUID[:])
		p.UUID[6], p.UUID[8] = p.UUID[6]&0x0f|0x40, p.UUID[8]&0x3f|0x80 // version 4, RFC 9562
	}
	data, err := os.Open(c.Args().Get(0))
	if err != nil {
		return err
	}
	defer data.Close()
	if err := dataBlocks(data, &p); err != nil {
		return err
	}
	name := c.Args().Get(1)
	inPlace, err := hashInPlace(data, name, p)
	if err != nil {
		return err
	}
	size := int64(p.DataBlocks) * int64(p.DataBlockSize)
	bar := e.startProgress("hashing "+data.Name(), size)
	in := io.TeeReader(io.LimitReader(data, size), bar)
	root, err := formatTo(c.Context, in, name, inPlace, p)
	bar.End()
	if err != nil {
		return err
	}
	a := newVerityAnswer(p)
	a.RootHash = &root
	return printVerity(e, name, a)
}

// hashInPlace says whether the hash file exists as something to write into: a device is never replaced
// by a file of its name, and what lies in front of an offset stays. It refuses a hash area that would
// lie in the data.
func hashInPlace(data *os.File, name string, p verity.Params) (bool, error) {
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if fi.IsDir() {
		return false, fmt.Errorf("%s: is a directory, want a file or a device", name)
	}
	di, err := data.Stat()
	if err != nil {
		return false, err
	}
	if end := p.DataBlocks * uint64(p.DataBlockSize); os.SameFile(fi, di) && uint64(p.HashOffset) < end {
		return false, usagef("--hash-offset %d: HASH is DATA, want at least %d, or fewer --data-blocks", p.HashOffset, end)
	}
	return p.HashOffset > 0 || !fi.Mode().IsRegular(), nil
}

// formatTo writes the hash area into the file of that name, or to a new one that appears when it is
// whole.
func formatTo(ctx context.Context, data io.Reader, name string, inPlace bool, p verity.Params) (verity.RootHash, error) {
	if inPlace {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return verity.RootHash{}, err
		}
		root, err := verity.Format(ctx, data, f, p)
		if err == nil {
			err = syncFile(f)
		}
		return root, errors.Join(err, f.Close())
	}
	f, err := atomicfile.Create(name, 0o644)
	if err != nil {
		return verity.RootHash{}, err
	}
	defer f.Abort()
	root, err := verity.Format(ctx, data, f, p)
	if err != nil {
		return root, err
	}
	return root, f.Commit()
}

// syncFile makes the file durable. Character devices cannot be synced and need not be.
func syncFile(f *os.File) error {
	fi, err := f.Stat()
	if err != nil || fi.Mode()&fs.ModeCharDevice != 0 {
		return err
	}
	return f.Sync()
}
