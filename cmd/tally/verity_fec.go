package main

import (
	"context"
	"fmt"
	"os"

	"tally/internal/cli"
	"tally/verity"
)

// A fecOption is what --fec-device and its two companions say.
type fecOption struct {
	name       string
	fec        verity.FEC
	inHashFile bool // the file is HASH
	inPlace    bool
}

// fecParams returns nil when there is no --fec-device.
func fecParams(c *cli.Context) (*fecOption, error) {
	if !c.IsSet("fec-device") {
		for _, name := range []string{"fec-roots", "fec-offset"} {
			if c.IsSet(name) {
				return nil, usagef("--%s: want --fec-device too", name)
			}
		}
		return nil, nil
	}
	o := &fecOption{name: c.String("fec-device"), fec: verity.FEC{Roots: c.Int("fec-roots"), Offset: c.Int64("fec-offset")}}
	switch {
	case o.name == "":
		return nil, usagef("--fec-device: want the name of a file")
	case o.fec.Roots < verity.MinFECRoots || o.fec.Roots > verity.MaxFECRoots:
		return nil, usagef("--fec-roots %d: want %d to %d", o.fec.Roots, verity.MinFECRoots, verity.MaxFECRoots)
	case o.fec.Offset < 0 || o.fec.Offset%512 != 0 || o.fec.Offset > 1<<62:
		return nil, usagef("--fec-offset %d: want a multiple of 512", o.fec.Offset)
	case c.Int("data-block-size") != c.Int("hash-block-size") && (c.IsSet("data-block-size") || c.IsSet("hash-block-size")):
		return nil, usagef("--fec-device: want data and hash blocks of the same size")
	}
	return o, nil
}

// place refuses a place that something else has.
func (o *fecOption) place(data, hash string, p verity.Params) (err error) {
	hashEnd, err := verity.HashFileSize(p)
	if err != nil {
		return err
	}
	o.inHashFile = sameFile(o.name, hash)
	if o.inHashFile && o.fec.Offset < hashEnd {
		return usagef("--fec-offset %d: the file is HASH, want at least %d", o.fec.Offset, hashEnd)
	}
	if end := int64(p.DataBlocks) * int64(p.DataBlockSize); sameFile(o.name, data) && o.fec.Offset < end {
		return usagef("--fec-offset %d: the file is DATA, want at least %d", o.fec.Offset, end)
	}
	o.inPlace, err = writeInPlace(o.name, o.fec.Offset)
	return err
}

// measureHash fills in how much of the hash file is covered.
func (o *fecOption) measureHash(hash *os.File) error {
	size, err := fileSize(hash)
	o.fec.HashFileSize = size
	if o.inHashFile {
		o.fec.HashFileSize = o.fec.Offset
	}
	return err
}

// write computes the error correction data and adds it to the answer. The caller finishes the file; there is none when it
// is HASH or not wanted.
func (o *fecOption) write(ctx context.Context, e *env, data *os.File, hash *verityOutput, p verity.Params, a *verityAnswer) (*verityOutput, error) {
	if o == nil {
		return nil, nil
	}
	if err := o.measureHash(hash.File); err != nil {
		return nil, err
	}
	if err := a.setFEC(p, o.fec); err != nil {
		return nil, err
	}
	e.logf("computing error correction data")
	if o.inHashFile {
		if err := growTo(hash.File, o.fec.Offset); err != nil {
			return nil, err
		}
		return nil, verity.WriteFEC(ctx, data, hash.File, hash.File, p, o.fec)
	}
	out, err := openVerityOutput(o.name, o.inPlace)
	if err != nil {
		return nil, err
	}
	if err := verity.WriteFEC(ctx, data, hash.File, out.File, p, o.fec); err != nil {
		out.abort()
		return nil, err
	}
	return out, nil
}

// growTo makes a regular file that long, so that the gap in front of the error correction data, which it
// covers too, can be read.
func growTo(f *os.File, size int64) error {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

// setFEC adds the fields of error correction to an answer.
func (a *verityAnswer) setFEC(p verity.Params, f verity.FEC) error {
	size, err := verity.FECSize(p, f)
	if err != nil {
		return err
	}
	a.FEC = &fecAnswer{Roots: f.Roots, Offset: f.Offset, Blocks: size / int64(p.DataBlockSize), Size: size}
	return nil
}

// A fecAnswer describes error correction data, and what it could do.
type fecAnswer struct {
	Roots      int      `json:"roots"`
	Offset     int64    `json:"offset"`
	Blocks     int64    `json:"blocks"`
	Size       int64    `json:"size"`
	Matches    *bool    `json:"matches,omitempty"`
	Repairable *bool    `json:"repairable,omitempty"`
	Detail     string   `json:"detail,omitempty"`
	DataBlocks []uint64 `json:"data_blocks,omitempty"`
	HashBlocks []uint64 `json:"hash_blocks,omitempty"`
	Repaired   string   `json:"repaired,omitempty"`
}

// someBlocks lists a few numbers.
func someBlocks(n []uint64) string {
	if len(n) > 8 {
		return fmt.Sprintf("%v and %d more", n[:8], len(n)-8)
	}
	return fmt.Sprint(n)
}
