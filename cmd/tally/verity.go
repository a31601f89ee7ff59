package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"tally/internal/atomicfile"
	"tally/verity"
)

// verityFlags are veritysetup's own. What cannot be done yet is refused by name, not ignored.
func verityFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "salt", Aliases: []string{"s"}, Usage: "salt in `HEX`, 0 to 256 bytes, - for none (format: 32 random bytes)"},
		&cli.StringFlag{Name: "uuid", Usage: "`UUID` of the superblock (format: random)"},
		&cli.StringFlag{Name: "hash", Value: "sha256", Usage: "hash `NAME`"},
		&cli.IntFlag{Name: "format", Value: 1, Usage: "format type"},
		&cli.IntFlag{Name: "data-block-size", Value: verity.BlockSize, Usage: "`BYTES` of a data block"},
		&cli.IntFlag{Name: "hash-block-size", Value: verity.BlockSize, Usage: "`BYTES` of a hash block"},
		&cli.Uint64Flag{Name: "data-blocks", Usage: "`NUMBER` of data blocks (default: the whole file)"},
		&cli.Int64Flag{Name: "hash-offset", Usage: "start of the hash area in `BYTES`"},
		&cli.BoolFlag{Name: "no-superblock", Usage: "do not write or read a superblock"},
		&cli.StringFlag{Name: "fec-device", Usage: "not supported yet"},
		&cli.IntFlag{Name: "fec-roots", Usage: "not supported yet"},
	}
}

const verityJSON = `
--json prints tally.verity/v1: uuid, hash_type, data_blocks, data_block_size, hash_blocks, hash_block_size,
hash_algorithm, salt (hex, "-" for none), root_hash (not for dump), hash_device_size (bytes).`

func verityCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "verity",
		Usage: "make, check and show dm-verity hash trees",
		Subcommands: []*cli.Command{
			{
				Name: "format", Usage: "write the hash tree of DATA to HASH and print its root hash", ArgsUsage: "DATA HASH", Flags: verityFlags(),
				Description: "The hash file is byte-identical to what `veritysetup format` writes with the same options.\n" +
					"With --hash-offset an existing HASH is written in place, else it appears whole or not at all." + verityJSON,
				Action: func(c *cli.Context) error { return verityFormat(c, e) },
			},
			{
				Name: "verify", Usage: "check every block of DATA and HASH against a root hash", ArgsUsage: "DATA HASH ROOT", Flags: verityFlags(),
				Description: "Exit code 4 names the first bad block. Parameters come from the superblock; options given must agree with it." + verityJSON,
				Action:      func(c *cli.Context) error { return verityVerify(c, e) },
			},
			{
				Name: "dump", Usage: "print the superblock of HASH", ArgsUsage: "HASH", Flags: verityFlags(),
				Description: "The superblock is authenticated by nothing: compare it with a signed release." + verityJSON,
				Action:      func(c *cli.Context) error { return verityDump(c, e) },
			},
		},
	}
}

// verityParams reads the flags that all three share.
func verityParams(c *cli.Context) (verity.Params, error) {
	p := verity.Params{DataBlocks: c.Uint64("data-blocks"), HashOffset: c.Int64("hash-offset"), NoSuperblock: c.Bool("no-superblock")}
	switch {
	case c.String("hash") != "sha256":
		return p, usagef("--hash %q: only sha256 is supported", c.String("hash"))
	case c.Int("format") != 1:
		return p, usagef("--format %d: only format 1 is supported", c.Int("format"))
	case c.Int("data-block-size") != verity.BlockSize || c.Int("hash-block-size") != verity.BlockSize:
		return p, usagef("--data-block-size and --hash-block-size: only %d is supported", verity.BlockSize)
	case c.IsSet("fec-device") || c.IsSet("fec-roots"):
		return p, usagef("--fec-device: forward error correction is not supported")
	case p.HashOffset < 0 || p.HashOffset%verity.BlockSize != 0:
		return p, usagef("--hash-offset %d: want a multiple of %d", p.HashOffset, verity.BlockSize)
	}
	if s := c.String("salt"); s != "" && s != "-" {
		salt, err := hex.DecodeString(s)
		if err != nil || len(salt) > verity.MaxSalt {
			return p, usagef("--salt %.32q: want at most %d bytes in hex, or -", s, verity.MaxSalt)
		}
		p.Salt = salt
	}
	if s := c.String("uuid"); s != "" {
		u, err := verity.ParseUUID(s)
		if err != nil {
			return p, usagef("--uuid: %w", err)
		}
		p.UUID = u
	}
	return p, nil
}

// dataBlocks fills in the number of blocks from the size of the data file.
func dataBlocks(f *os.File, p *verity.Params) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if p.DataBlocks == 0 {
		if size == 0 || size%verity.BlockSize != 0 {
			return fmt.Errorf("%s: %d bytes, want a multiple of %d (or --data-blocks)", f.Name(), size, verity.BlockSize)
		}
		p.DataBlocks = uint64(size / verity.BlockSize)
	}
	if p.DataBlocks > uint64(size/verity.BlockSize) {
		return fmt.Errorf("%s: %d bytes, want %d blocks of %d", f.Name(), size, p.DataBlocks, verity.BlockSize)
	}
	return nil
}

func verityFormat(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DATA", "HASH"); err != nil {
		return err
	}
	p, err := verityParams(c)
	if err != nil {
		return err
	}
	if !c.IsSet("salt") {
		p.Salt = make([]byte, verity.DigestSize)
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
	root, err := formatFile(c.Context, e, data, c.Args().Get(1), p)
	if err != nil {
		return err
	}
	return printVerity(e, c.Args().Get(1), p, &root)
}

// formatFile writes the hash area: in place behind an offset, as a new file otherwise.
func formatFile(ctx context.Context, e *env, data *os.File, path string, p verity.Params) (verity.RootHash, error) {
	bar := e.startProgress("hashing "+data.Name(), int64(p.DataBlocks)*verity.BlockSize)
	defer bar.End()
	in := io.TeeReader(io.LimitReader(data, int64(p.DataBlocks)*verity.BlockSize), bar)
	if p.HashOffset > 0 {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return verity.RootHash{}, err
		}
		root, err := verity.Format(ctx, in, f, p)
		return root, errors.Join(err, f.Close())
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return verity.RootHash{}, err
	}
	defer f.Abort()
	root, err := verity.Format(ctx, in, f, p)
	if err != nil {
		return root, err
	}
	return root, f.Commit()
}

func verityVerify(c *cli.Context, e *env) error {
	if err := wantArgs(c, "DATA", "HASH", "ROOT"); err != nil {
		return err
	}
	p, err := verityParams(c)
	if err != nil {
		return err
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
	bar := e.startProgress("verifying "+data.Name(), int64(p.DataBlocks)*verity.BlockSize)
	err = verity.Verify(c.Context, countingReaderAt{data, bar}, hash, root, p)
	bar.End()
	var be *verity.BlockError
	if errors.As(err, &be) || errors.Is(err, verity.ErrRoot) {
		return verdict(exitUnverified, "hash-tree", "%s: %w", data.Name(), err)
	}
	if err != nil {
		return err
	}
	return printVerity(e, hash.Name(), p, &root)
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
	case p.DataBlocks != 0 && sb.DataBlocks != p.DataBlocks:
		return sb, fmt.Errorf("superblock: %d data blocks, but --data-blocks is %d", sb.DataBlocks, p.DataBlocks)
	}
	return sb, nil
}

func verityDump(c *cli.Context, e *env) error {
	if err := wantArgs(c, "HASH"); err != nil {
		return err
	}
	p, err := verityParams(c)
	if err != nil {
		return err
	}
	f, err := os.Open(c.Args().First())
	if err != nil {
		return err
	}
	defer f.Close()
	if p, err = verity.ReadSuperblock(f, p.HashOffset); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return printVerity(e, f.Name(), p, nil)
}

// printVerity prints the fields that veritysetup prints, in its form.
func printVerity(e *env, name string, p verity.Params, root *verity.RootHash) error {
	size, err := verity.HashFileSize(p)
	if err != nil {
		return err
	}
	size -= p.HashOffset
	blocks := size / verity.BlockSize
	uuid, salt := "", "-"
	if !p.NoSuperblock {
		uuid, blocks = verity.FormatUUID(p.UUID), blocks-1
	}
	if len(p.Salt) > 0 {
		salt = hex.EncodeToString(p.Salt)
	}
	if e.json {
		v := map[string]any{"schema": "tally.verity/v1", "uuid": uuid, "hash_type": 1, "data_blocks": p.DataBlocks, "data_block_size": verity.BlockSize,
			"hash_blocks": blocks, "hash_block_size": verity.BlockSize, "hash_algorithm": "sha256", "salt": salt, "hash_device_size": size}
		if root != nil {
			v["root_hash"] = root
		}
		return e.printJSON(v)
	}
	w := bufio.NewWriter(e.out)
	fmt.Fprintf(w, "VERITY header information for %s\n", name)
	fmt.Fprintf(w, "UUID:            \t%s\nHash type:       \t1\nData blocks:     \t%d\nData block size: \t%d\n", uuid, p.DataBlocks, verity.BlockSize)
	fmt.Fprintf(w, "Hash blocks:     \t%d\nHash block size: \t%d\nHash algorithm:  \tsha256\nSalt:            \t%s\n", blocks, verity.BlockSize, salt)
	if root != nil {
		fmt.Fprintf(w, "Root hash:      \t%s\n", root)
	}
	fmt.Fprintf(w, "Hash device size: \t%d [bytes]\n", size)
	return w.Flush()
}
