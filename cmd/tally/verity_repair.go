package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"tally/internal/atomicfile"
	"tally/verity"
)

// correct says what error correction can do for a tree that is not verified, and does it with --repair.
func (v *verityCheck) correct(ctx context.Context, e *env, a *verityAnswer, bad bool) error {
	if err := a.setFEC(v.p, v.fec.fec); err != nil {
		return fmt.Errorf("%s: %w", v.fec.name, err)
	}
	if v.repair != "" {
		return v.repairTo(ctx, e, a)
	}
	if !bad {
		return v.checkParity(ctx, e, a)
	}
	_, err := v.tryRepair(ctx, e, a, nil)
	return err
}

// checkParity compares the error correction data of verified data with what it should be: nobody else
// would notice, until it is needed.
func (v *verityCheck) checkParity(ctx context.Context, e *env, a *verityAnswer) error {
	fec, err := os.Open(v.fec.name)
	if err != nil {
		return err
	}
	defer fec.Close()
	e.logf("checking error correction data")
	err = verity.CheckFEC(ctx, v.data, v.hash, fec, v.p, v.fec.fec)
	var fe *verity.FECError
	if err != nil && !errors.As(err, &fe) {
		return fmt.Errorf("%s: %w", v.fec.name, err)
	}
	matches := err == nil
	a.FEC.Matches = &matches
	if !matches {
		a.FEC.Detail = err.Error()
	}
	return nil
}

// tryRepair fills in whether the bad blocks can be made good. Whatever else goes wrong is an error.
func (v *verityCheck) tryRepair(ctx context.Context, e *env, a *verityAnswer, put func(uint64, []byte) error) (bool, error) {
	fec, err := os.Open(v.fec.name)
	if err != nil {
		return false, err
	}
	defer fec.Close()
	e.logf("repairing")
	done, err := verity.Repair(ctx, v.data, v.hash, fec, v.root, v.p, v.fec.fec, put)
	var re *verity.RepairError
	if err != nil && !errors.As(err, &re) {
		return false, fmt.Errorf("%s: %w", v.fec.name, err)
	}
	repairable := err == nil
	a.FEC.Repairable = &repairable
	if !repairable {
		a.FEC.Detail = err.Error()
		return false, nil
	}
	a.FEC.DataBlocks, a.FEC.HashBlocks = done.Data, done.Hash
	return true, nil
}

// repairTo writes the repaired data. The file appears only when a hash tree made of it anew has the root.
func (v *verityCheck) repairTo(ctx context.Context, e *env, a *verityAnswer) error {
	out, err := atomicfile.Create(v.repair, 0o644)
	if err != nil {
		return err
	}
	defer out.Abort()
	if err := copyFile(ctx, out.File, v.data); err != nil {
		return err
	}
	ok, err := v.tryRepair(ctx, e, a, func(block uint64, b []byte) error {
		_, err := out.WriteAt(b, int64(block)*int64(v.p.DataBlockSize))
		return err
	})
	if err != nil || !ok {
		return err
	}
	size := int64(v.p.DataBlocks) * int64(v.p.DataBlockSize)
	root, err := verity.Format(ctx, io.NewSectionReader(out, 0, size), discardAt{}, v.p)
	if err != nil {
		return err
	}
	if root != v.root {
		return fmt.Errorf("%s: repaired data has root hash %s: DATA changed meanwhile", v.repair, root)
	}
	if err := out.Commit(); err != nil {
		return err
	}
	if len(a.FEC.HashBlocks) > 0 {
		e.logf("hint: %s has bad blocks too: `tally verity format %s HASH` with its options makes it anew", v.hash.Name(), v.repair)
	}
	a.FEC.Repaired = v.repair
	*a = a.asVerified()
	return nil
}

// copyPart is how many bytes are copied between two looks at the context.
const copyPart = 64 << 20

// copyFile copies until the end or until ctx ends. It copies in parts, not through a reader that looks at ctx, so that the
// kernel can do it.
func copyFile(ctx context.Context, dst, src *os.File) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(dst, src, copyPart); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// asVerified is the answer for data that was repaired: what was found wrong is in its fec part.
func (a *verityAnswer) asVerified() verityAnswer {
	b := *a
	verified := true
	b.Verified, b.Reason, b.Detail, b.Area, b.Files = &verified, "", "", "", nil
	b.Block, b.Offset, b.Level, b.FirstDataBlock, b.Covers = nil, nil, nil, nil, nil
	return b
}

type discardAt struct{}

func (discardAt) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
