package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"tally/verity"
)

func verityVerify(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DATA", "HASH", "ROOT"); err != nil {
		return err
	}
	p, err := verityParams(c)
	if err != nil {
		return err
	}
	if p.NoSuperblock && !c.IsSet("salt") {
		return usagef("--no-superblock: want --salt too (- for none): nothing else says it")
	}
	root, err := verity.ParseRootHash(c.Args().Get(2))
	if err != nil {
		return usagef("%w", err)
	}
	data, err := os.Open(c.Args().Get(0))
	if err != nil {
		return err
	}
	defer data.Close()
	hash, err := os.Open(c.Args().Get(1))
	if err != nil {
		return err
	}
	defer hash.Close()
	if !p.NoSuperblock {
		if p, err = agreeWithSuperblock(c, hash, p); err != nil {
			return fmt.Errorf("%s: %w", hash.Name(), err)
		}
	}
	if err := dataBlocks(data, &p); err != nil {
		return err
	}
	bar := e.startProgress("verifying "+data.Name(), int64(p.DataBlocks)*int64(p.DataBlockSize))
	err = verity.Verify(c.Context, countingReaderAt{data, bar}, hash, root, p)
	bar.End()
	return printVerdict(e, data.Name(), hash.Name(), p, root, err)
}

// printVerdict prints the answer of verity.Verify; an error that is none comes back as it is.
func printVerdict(e *env, data, hash string, p verity.Params, root verity.RootHash, err error) error {
	var be *verity.BlockError
	if err != nil && !errors.As(err, &be) && !errors.Is(err, verity.ErrRoot) {
		return err
	}
	a := newVerityAnswer(p)
	a.RootHash = &root
	a.setVerdict(err)
	if perr := printVerity(e, hash, a); perr != nil || err == nil {
		return perr
	}
	where := hash
	if a.Area == verity.AreaData {
		where = data
	}
	return verdict(exitUnverified, a.Reason, "%s: %w", where, err)
}

type countingReaderAt struct {
	r   io.ReaderAt
	bar *progress
}

func (c countingReaderAt) ReadAt(b []byte, off int64) (int, error) {
	c.bar.add(int64(len(b)))
	return c.r.ReadAt(b, off)
}

// agreeWithSuperblock takes the parameters from the superblock; an option that says something else is
// an error.
func agreeWithSuperblock(c *cli.Context, hash io.ReaderAt, p verity.Params) (verity.Params, error) {
	sb, err := verity.ReadSuperblock(hash, p.HashOffset)
	switch {
	case err != nil:
		return sb, err
	case c.IsSet("salt") && string(sb.Salt) != string(p.Salt):
		return sb, fmt.Errorf("superblock: salt %x, but --salt is %x", sb.Salt, p.Salt)
	case c.IsSet("uuid") && sb.UUID != p.UUID:
		return sb, fmt.Errorf("superblock: uuid %s, but --uuid is %s", verity.FormatUUID(sb.UUID), verity.FormatUUID(p.UUID))
	case c.IsSet("hash") && sb.Hash != p.Hash:
		return sb, fmt.Errorf("superblock: hash %s, but --hash is %s", sb.Hash, p.Hash)
	case c.IsSet("format") && sb.Format0 != p.Format0:
		return sb, fmt.Errorf("superblock: another format than --format %d", c.Int("format"))
	case c.IsSet("data-block-size") && sb.DataBlockSize != p.DataBlockSize:
		return sb, fmt.Errorf("superblock: data blocks of %d bytes, but --data-block-size is %d", sb.DataBlockSize, p.DataBlockSize)
	case c.IsSet("hash-block-size") && sb.HashBlockSize != p.HashBlockSize:
		return sb, fmt.Errorf("superblock: hash blocks of %d bytes, but --hash-block-size is %d", sb.HashBlockSize, p.HashBlockSize)
	case c.IsSet("data-blocks") && sb.DataBlocks != p.DataBlocks:
		return sb, fmt.Errorf("superblock: %d data blocks, but --data-blocks is %d", sb.DataBlocks, p.DataBlocks)
	}
	return sb, nil
}
