package main

import (
	"crypto/rand"
	"io"
	"os"

	"github.com/urfave/cli/v2"

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
	fec, err := fecParams(c)
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
	if p.DataBlockSize > 4096 || p.HashBlockSize > 4096 {
		e.logf("hint: the kernel activates no blocks larger than its pages, 4096 bytes on x86-64")
	}
	if p.Hash == verity.SHA1 {
		e.logf("hint: SHA-1 does not authenticate data that someone else made")
	}
	a, err := formatTo(c, e, data, c.Args().Get(1), p, fec)
	if err != nil {
		return err
	}
	return printVerity(e, c.Args().Get(1), a)
}

// formatTo writes the hash area, and the error correction data if fec is not nil. A new file appears only
// when all is written.
func formatTo(c *cli.Context, e *env, data *os.File, name string, p verity.Params, fec *fecOption) (*verityAnswer, error) {
	inPlace, err := writeInPlace(name, p.HashOffset)
	if err != nil {
		return nil, err
	}
	size := int64(p.DataBlocks) * int64(p.DataBlockSize)
	if sameFile(data.Name(), name) && p.HashOffset < size {
		return nil, usagef("--hash-offset %d: HASH is DATA, want at least %d, or fewer --data-blocks", p.HashOffset, size)
	}
	if fec != nil {
		if err := fec.place(data.Name(), name, p); err != nil {
			return nil, err
		}
	}
	hash, err := openVerityOutput(name, inPlace)
	if err != nil {
		return nil, err
	}
	defer hash.abort()
	bar := e.startProgress("hashing "+data.Name(), size)
	root, err := verity.Format(c.Context, io.TeeReader(io.LimitReader(data, size), bar), hash.File, p)
	bar.End()
	if err != nil {
		return nil, err
	}
	a := newVerityAnswer(p)
	a.RootHash = &root
	if fec != nil {
		if err := fec.write(c.Context, e, data, hash, p, a); err != nil {
			return nil, err
		}
	}
	if err := hash.finish(); err != nil {
		return nil, err
	}
	return a, writeRootHashFile(c, root)
}
