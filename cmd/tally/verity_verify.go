package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tally/internal/cli"
	"tally/verity"
)

// A verityCheck is one run of verify.
type verityCheck struct {
	data, hash *os.File
	p          verity.Params
	root       verity.RootHash
	fec        *fecOption // nil without --fec-device
	repair     string     // the name of OUT, "" for none
}

func verityVerify(c *cli.Context, e *env) error {
	v, err := newVerityCheck(c)
	if err != nil {
		return err
	}
	defer v.close()
	if err := v.open(c); err != nil {
		return err
	}
	signature, err := checkSignature(c, v.root)
	if err != nil {
		return v.unsigned(e, signature, err)
	}
	bar := e.startProgress("verifying "+v.data.Name(), int64(v.p.DataBlocks)*int64(v.p.DataBlockSize))
	found := verity.Verify(c.Context, countingReaderAt{v.data, bar}, v.hash, v.root, v.p)
	bar.End()
	var be *verity.BlockError
	if found != nil && !errors.As(found, &be) && !errors.Is(found, verity.ErrRoot) {
		return found
	}
	a := newVerityAnswer(v.p)
	a.RootHash, a.Signature = &v.root, signature
	a.setVerdict(found)
	if be != nil && be.Area == verity.AreaData {
		a.Files = filesAt(v.data, be.Offset, v.p.DataBlockSize)
	}
	if v.fec != nil {
		if err := v.correct(c.Context, e, a, found != nil); err != nil {
			return err
		}
	}
	return v.print(e, a, found)
}

// newVerityCheck reads the command line.
func newVerityCheck(c *cli.Context) (*verityCheck, error) {
	p, err := verityParams(c)
	if err != nil {
		return nil, err
	}
	if p.NoSuperblock && !c.IsSet("salt") {
		return nil, usagef("--no-superblock: want --salt too (- for none): nothing else says it")
	}
	v := &verityCheck{p: p, repair: c.String("repair")}
	if v.fec, err = fecParams(c); err != nil {
		return nil, err
	}
	if c.IsSet("repair") && (v.fec == nil || v.repair == "") {
		return nil, usagef("--repair: want the name of a file, and --fec-device")
	}
	v.root, err = rootHashArgument(c, "DATA", "HASH")
	return v, err
}

// rootHashArgument is the last argument, ROOT, or what --root-hash-file holds; other arguments stand before
// it.
func rootHashArgument(c *cli.Context, before ...string) (verity.RootHash, error) {
	name := c.String("root-hash-file")
	if name == "" {
		if err := wantArgs(c, append(before, "ROOT")...); err != nil {
			return verity.RootHash{}, err
		}
		root, err := verity.ParseRootHash(c.Args().Get(len(before)))
		if err != nil {
			return root, usagef("%w", err)
		}
		return root, nil
	}
	if err := wantArgs(c, before...); err != nil {
		return verity.RootHash{}, err
	}
	f, err := os.Open(name)
	if err != nil {
		return verity.RootHash{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRootHashFile))
	if err != nil {
		return verity.RootHash{}, err
	}
	root, err := verity.ParseRootHash(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return root, fmt.Errorf("%s: %w", name, err)
	}
	return root, nil
}

// maxRootHashFile is more than the longest root hash in hex and a newline.
const maxRootHashFile = 200

func (v *verityCheck) close() {
	for _, f := range []*os.File{v.data, v.hash} {
		if f != nil {
			f.Close()
		}
	}
}

// open opens the files and settles the parameters.
func (v *verityCheck) open(c *cli.Context) (err error) {
	if v.data, err = os.Open(c.Args().Get(0)); err != nil {
		return err
	}
	if v.hash, err = os.Open(c.Args().Get(1)); err != nil {
		return err
	}
	if !v.p.NoSuperblock {
		if v.p, err = agreeWithSuperblock(c, v.hash, v.p); err != nil {
			return fmt.Errorf("%s: %w", v.hash.Name(), err)
		}
	}
	if v.fec != nil {
		v.fec.inHashFile = sameFile(v.fec.name, v.hash.Name())
		if err := v.fec.measureHash(v.hash); err != nil {
			return err
		}
	}
	if err := v.checkOutput(); err != nil {
		return err
	}
	return dataBlocks(v.data, &v.p)
}

// checkOutput refuses to write the repaired data over what it is made of.
func (v *verityCheck) checkOutput() error {
	if v.repair == "" {
		return nil
	}
	for _, name := range []string{v.data.Name(), v.hash.Name(), v.fec.name} {
		if sameFile(v.repair, name) {
			return usagef("--repair %s: want another file than %s", v.repair, name)
		}
	}
	inPlace, err := writeInPlace(v.repair, 0)
	if err == nil && inPlace {
		err = usagef("--repair %s: want a regular file or none", v.repair)
	}
	return err
}

// unsigned is the end of a verification whose signature does not stand; without an answer about it, err is
// no verdict.
func (v *verityCheck) unsigned(e *env, signature *signatureAnswer, err error) error {
	if signature == nil {
		return err
	}
	a := newVerityAnswer(v.p)
	verified := false
	a.RootHash, a.Signature = &v.root, signature
	a.Verified, a.Reason, a.Detail = &verified, "signature", err.Error()
	if perr := printVerity(e, v.hash.Name(), a); perr != nil {
		return perr
	}
	return verdict(exitUnverified, a.Reason, "%w", err)
}

// print prints the answer and turns it into the exit code. Data that was repaired is verified.
func (v *verityCheck) print(e *env, a *verityAnswer, found error) error {
	if err := printVerity(e, v.hash.Name(), a); err != nil {
		return err
	}
	switch {
	case *a.Verified && a.FEC != nil && a.FEC.Matches != nil && !*a.FEC.Matches:
		return verdict(exitDiffers, "fec", "%s: %s", v.fec.name, a.FEC.Detail)
	case *a.Verified:
		return nil
	}
	where := v.hash.Name()
	if a.Area == verity.AreaData {
		where = v.data.Name()
	}
	if len(a.Files) > 0 {
		return verdict(exitUnverified, a.Reason, "%s: %w (in %q)", where, found, a.Files[0])
	}
	return verdict(exitUnverified, a.Reason, "%s: %w", where, found)
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
