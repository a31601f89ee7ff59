package main

import (
	"encoding/hex"
	"fmt"
	"os"

	"tally/internal/cli"
	"tally/verity"
)

// verityFlags are veritysetup's own.
func verityFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "salt", Aliases: []string{"s"}, Usage: "salt in `HEX`, 0 to 256 bytes, - for none (format: 32 random bytes)"},
		&cli.StringFlag{Name: "uuid", Usage: "`UUID` of the superblock (format: random)"},
		&cli.StringFlag{Name: "hash", Value: "sha256", Usage: "hash `NAME`: sha1, sha256 or sha512"},
		&cli.IntFlag{Name: "format", Value: 1, Usage: "format `TYPE`: 1, or 0 for Chrome OS's"},
		&cli.IntFlag{Name: "data-block-size", Value: verity.BlockSize, Usage: "`BYTES` of a data block, a power of two from 512 to 65536"},
		&cli.IntFlag{Name: "hash-block-size", Value: verity.BlockSize, Usage: "`BYTES` of a hash block, the same"},
		&cli.Uint64Flag{Name: "data-blocks", Usage: "`NUMBER` of data blocks (default: the whole file)"},
		hashOffsetFlag(),
		&cli.BoolFlag{Name: "no-superblock", Usage: "do not write or read a superblock"},
		&cli.StringFlag{Name: "fec-device", Usage: "`FILE` of error correction data (format: written)"},
		&cli.IntFlag{Name: "fec-roots", Value: verity.MinFECRoots, Usage: "`NUMBER` of parity bytes for 255-NUMBER bytes, 2 to 24"},
		&cli.Int64Flag{Name: "fec-offset", Usage: "start of the error correction data in `BYTES`, a multiple of 512"},
		&cli.StringFlag{Name: "root-hash-file", Usage: "`FILE` that holds the root hash in hex (format: written)"},
	}
}

func hashOffsetFlag() cli.Flag {
	return &cli.Int64Flag{Name: "hash-offset", Usage: "start of the hash area in `BYTES`, a multiple of 512 (with --no-superblock: of the hash block size)"}
}

const verityJSON = `

--json prints tally.verity/v1: uuid ("" without superblock), hash_type, data_blocks, data_block_size, hash_blocks,
hash_block_size, hash_algorithm, salt (hex, "-" for none), hash_device_size (bytes, with the superblock's block); format and
verify: root_hash, and with --fec-device fec (roots, offset, blocks, size in bytes); verify: verified, and when it is false
reason (hash-tree), detail, and unless the root hash itself differs area (data or hash), block (of that area's size, from the
start of the file), offset (the same in bytes), of a hash block level (0 is the level over the data) and first_data_block and
covers (the data blocks below it), of a data block files (paths in the EROFS image DATA that have bytes in it). With
--fec-device a verified tree has fec.matches (false with exit code 3), one that is not has fec.repairable, then data_blocks
and hash_blocks (the bad blocks) or detail (why not), and with --repair repaired (OUT); verified is then true of OUT. With
--root-hash-signature signature (verified, certificate_sha256, subject); when it is not verified, reason is signature and
the hash tree was not looked at.`

func verityCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:  "verity",
		Usage: "make, check and show dm-verity hash trees",
		Subcommands: []*cli.Command{
			{
				Name: "format", Usage: "write the hash tree of DATA to HASH and print its root hash", ArgsUsage: "DATA HASH", Flags: verityFlags(),
				Description: "The hash file is byte-identical to what `veritysetup format` writes with the same options. Unlike it, data that is\n" +
					"not a multiple of the block size is refused, since its end would not be covered.\n" +
					"A device, and with --hash-offset an existing file, is written in place; else HASH appears whole or not at all.\n" +
					"The same holds for --fec-device, which gets the Reed-Solomon parity that the kernel and `verify` correct with. It\n" +
					"covers DATA and HASH from the hash tree to the end of the file (or to --fec-offset, when it is in HASH too).\n\n" +
					"    tally verity format --salt - root.erofs root.verity" + verityJSON,
				Action: func(c *cli.Context) error { return verityFormat(c, e) },
			},
			{
				Name: "verify", Usage: "check every block of DATA and HASH against a root hash", ArgsUsage: "DATA HASH [ROOT]", Flags: verityVerifyFlags(),
				Description: "Exit code 4, reason hash-tree, names the first bad block, and of an EROFS image the file that has bytes in it.\n" +
					"Parameters come from the superblock; options given must agree with it. With --no-superblock, --salt must be given,\n" +
					"and whatever else differs from the defaults.\n" +
					"With --fec-device the error correction data of verified data is compared too: exit code 3, reason fec, when it is\n" +
					"not what it should be. A tree that is not verified is tried to repair: the answer says whether that would do, and\n" +
					"--repair OUT writes DATA with its bad blocks made good to a new file, which is checked against ROOT before it\n" +
					"appears; then the exit code is 0. OUT holds DATA as it is when there is nothing to repair. HASH is never\n" +
					"written: `format` makes it anew.\n" +
					"With --root-hash-signature and --certificate the signature is checked first: exit code 4, reason signature, when it\n" +
					"is another root hash's or another signer's. As in the kernel, the certificate is trusted because it was given: its\n" +
					"dates and issuer are not looked at.\n\n" +
					"    tally verity verify root.erofs root.verity 5f3e…" + verityJSON,
				Action: func(c *cli.Context) error { return verityVerify(c, e) },
			},
			veritySignCommand(e),
			{
				Name: "dump", Usage: "print the superblock of HASH", ArgsUsage: "HASH", Flags: []cli.Flag{hashOffsetFlag()},
				Description: "The superblock is authenticated by nothing: compare it with a signed release." + verityJSON,
				Action:      func(c *cli.Context) error { return verityDump(c, e) },
			},
		},
	}
}

func verityVerifyFlags() []cli.Flag {
	return append(append(verityFlags(), signatureFlags()...),
		&cli.StringFlag{Name: "repair", Usage: "write DATA to `OUT` with its bad blocks made good (needs --fec-device)"})
}

// verityParams reads the flags that format and verify share.
func verityParams(c *cli.Context) (verity.Params, error) {
	p := verity.Params{
		DataBlocks: c.Uint64("data-blocks"), NoSuperblock: c.Bool("no-superblock"), Hash: verity.Hash(c.String("hash")),
		DataBlockSize: c.Int("data-block-size"), HashBlockSize: c.Int("hash-block-size"), Format0: c.Int("format") == 0,
	}
	if err := checkShape(c, p); err != nil {
		return p, err
	}
	align := 512
	if p.NoSuperblock {
		align = p.HashBlockSize
	}
	var err error
	if p.HashOffset, err = hashOffset(c, align); err != nil {
		return p, err
	}
	if s := c.String("salt"); c.IsSet("salt") && s != "-" {
		p.Salt, err = hex.DecodeString(s)
		if err != nil || len(p.Salt) == 0 || len(p.Salt) > verity.MaxSalt {
			return p, usagef("--salt %.32q: want 1 to %d bytes in hex, or -", s, verity.MaxSalt)
		}
	}
	if c.IsSet("uuid") {
		if p.NoSuperblock {
			return p, usagef("--uuid: there is no place for it with --no-superblock")
		}
		if p.UUID, err = verity.ParseUUID(c.String("uuid")); err != nil {
			return p, usagef("--uuid: %w", err)
		}
	}
	return p, nil
}

// checkShape names the option that asks for a tree that there is none of.
func checkShape(c *cli.Context, p verity.Params) error {
	if p.Hash.Size() == 0 || c.String("hash") == "" {
		return usagef("--hash %.32q: want sha1, sha256 or sha512", c.String("hash"))
	}
	if n := c.Int("format"); n != 0 && n != 1 {
		return usagef("--format %d: want 0 or 1", n)
	}
	for _, name := range []string{"data-block-size", "hash-block-size"} {
		if err := verity.CheckBlockSize(c.Int(name)); err != nil {
			return usagef("--%s: %w", name, err)
		}
	}
	return nil
}

func hashOffset(c *cli.Context, align int) (int64, error) {
	n := c.Int64("hash-offset")
	if n < 0 || n%int64(align) != 0 || n > 1<<62 {
		return 0, usagef("--hash-offset %d: want a multiple of %d", n, align)
	}
	return n, nil
}

// dataBlocks fills in the number of blocks from the size of the data, a file or a device.
func dataBlocks(f *os.File, p *verity.Params) error {
	size, err := fileSize(f)
	if err != nil {
		return err
	}
	block := int64(p.DataBlockSize)
	if p.DataBlocks == 0 {
		if size == 0 || size%block != 0 {
			return fmt.Errorf("%s: %d bytes, want a multiple of %d (or --data-blocks)", f.Name(), size, block)
		}
		p.DataBlocks = uint64(size / block)
	}
	if p.DataBlocks > uint64(size/block) {
		return fmt.Errorf("%s: %d bytes, want %d blocks of %d", f.Name(), size, p.DataBlocks, block)
	}
	return nil
}

func verityDump(c *cli.Context, e *env) error {
	if err := wantArgs(c, "HASH"); err != nil {
		return err
	}
	offset, err := hashOffset(c, 512)
	if err != nil {
		return err
	}
	f, err := os.Open(c.Args().First())
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := verity.ReadSuperblock(f, offset)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return printVerity(e, f.Name(), newVerityAnswer(p))
}
