package main

import (
	"crypto/rand"
	"io"
	"os"

	"tally/internal/atomicfile"
	"tally/internal/cli"
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
// when all is written: names are given last, HASH's after those of what belongs to it.
func formatTo(c *cli.Context, e *env, data *os.File, name string, p verity.Params, fec *fecOption) (*verityAnswer, error) {
	inPlace, err := writeInPlace(name, p.HashOffset)
	if err != nil {
		return nil, err
	}
	if end := int64(p.DataBlocks) * int64(p.DataBlockSize); sameFile(data.Name(), name) && p.HashOffset < end {
		return nil, usagef("--hash-offset %d: HASH is DATA, want at least %d, or fewer --data-blocks", p.HashOffset, end)
	}
	if fec != nil {
		if err := fec.place(data.Name(), name, p); err != nil {
			return nil, err
		}
	}
	if err := placeRootHashFile(c.String("root-hash-file"), data.Name(), name, fec); err != nil {
		return nil, err
	}
	hash, err := openVerityOutput(name, inPlace)
	if err != nil {
		return nil, err
	}
	defer hash.abort()
	rootFile, err := createRootHashFile(c)
	if err != nil {
		return nil, err
	}
	if rootFile != nil {
		defer rootFile.Abort()
	}
	root, err := hashData(c, e, data, hash, p)
	if err != nil {
		return nil, err
	}
	a := newVerityAnswer(p)
	a.RootHash = &root
	parity, err := fec.write(c.Context, e, data, hash, p, a)
	if err != nil {
		return nil, err
	}
	if parity != nil {
		defer parity.abort()
	}
	return a, finishFormat(rootFile, root, parity, hash)
}

// finishFormat gives the files their names; those of the root hash and of the error correction data may be nil.
func finishFormat(rootFile *atomicfile.File, root verity.RootHash, parity, hash *verityOutput) error {
	if err := finishRootHashFile(rootFile, root); err != nil {
		return err
	}
	if parity != nil {
		if err := parity.finish(); err != nil {
			return err
		}
	}
	return hash.finish()
}

// placeRootHashFile refuses the name of what the root hash would replace.
func placeRootHashFile(file, data, hash string, fec *fecOption) error {
	if file == "" {
		return nil
	}
	others := []struct{ what, name string }{{"DATA", data}, {"HASH", hash}}
	if fec != nil {
		others = append(others, struct{ what, name string }{"--fec-device", fec.name})
	}
	for _, o := range others {
		if sameFile(file, o.name) {
			return usagef("--root-hash-file %s: the file is %s, want another", file, o.what)
		}
	}
	return nil
}

// hashData writes the hash tree and shows how far it is.
func hashData(c *cli.Context, e *env, data *os.File, hash *verityOutput, p verity.Params) (verity.RootHash, error) {
	size := int64(p.DataBlocks) * int64(p.DataBlockSize)
	bar := e.startProgress("hashing "+data.Name(), size)
	defer bar.End()
	return verity.Format(c.Context, io.TeeReader(io.LimitReader(data, size), bar), hash.File, p)
}

// createRootHashFile begins --root-hash-file, before anything is done that would have to be undone without
// it; nil when there is none.
func createRootHashFile(c *cli.Context) (*atomicfile.File, error) {
	if c.String("root-hash-file") == "" {
		return nil, nil
	}
	return atomicfile.Create(c.String("root-hash-file"), 0o644)
}

// finishRootHashFile writes what rootHashArgument reads: hex without a newline, as veritysetup wants it.
func finishRootHashFile(f *atomicfile.File, root verity.RootHash) error {
	if f == nil {
		return nil
	}
	if _, err := f.WriteString(root.String()); err != nil {
		return err
	}
	return f.Commit()
}
