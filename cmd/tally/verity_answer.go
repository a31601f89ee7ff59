package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"tally/verity"
)

// A verityAnswer is what the verity commands print: tally.verity/v1.
type verityAnswer struct {
	Schema         string           `json:"schema"`
	UUID           string           `json:"uuid"`
	HashType       int              `json:"hash_type"`
	DataBlocks     uint64           `json:"data_blocks"`
	DataBlockSize  int              `json:"data_block_size"`
	HashBlocks     uint64           `json:"hash_blocks"` // without the superblock's
	HashBlockSize  int              `json:"hash_block_size"`
	HashAlgorithm  string           `json:"hash_algorithm"`
	Salt           string           `json:"salt"`
	HashDeviceSize int64            `json:"hash_device_size"`
	RootHash       *verity.RootHash `json:"root_hash,omitempty"`
	Verified       *bool            `json:"verified,omitempty"`
	Reason         string           `json:"reason,omitempty"`
	Detail         string           `json:"detail,omitempty"`
	Area           verity.Area      `json:"area,omitempty"`
	Block          *uint64          `json:"block,omitempty"`
	Offset         *int64           `json:"offset,omitempty"`
	Level          *int             `json:"level,omitempty"`
	FirstDataBlock *uint64          `json:"first_data_block,omitempty"`
	Covers         *uint64          `json:"covers,omitempty"`
	Files          []string         `json:"files,omitempty"`
	FEC            *fecAnswer       `json:"fec,omitempty"`
	Signature      *signatureAnswer `json:"signature,omitempty"`

	atOffset bool
}

// newVerityAnswer describes p, which must be valid and name its block sizes.
func newVerityAnswer(p verity.Params) *verityAnswer {
	size, err := verity.HashFileSize(p)
	if err != nil {
		panic("verity answer: " + err.Error())
	}
	blocks, _ := verity.HashBlocks(p) // checked just now
	a := &verityAnswer{
		Schema: "tally.verity/v1", HashType: 1, DataBlocks: p.DataBlocks, DataBlockSize: p.DataBlockSize, HashBlocks: blocks,
		HashBlockSize: p.HashBlockSize, HashAlgorithm: p.Hash.String(), Salt: "-", HashDeviceSize: size - p.HashOffset, atOffset: p.HashOffset > 0,
	}
	if p.Format0 {
		a.HashType = 0
	}
	if !p.NoSuperblock {
		a.UUID = verity.FormatUUID(p.UUID)
	}
	if len(p.Salt) > 0 {
		a.Salt = hex.EncodeToString(p.Salt)
	}
	return a
}

// setVerdict adds what verity.Verify found; err is nil, verity.ErrRoot or a *verity.BlockError.
func (a *verityAnswer) setVerdict(err error) {
	verified := err == nil
	a.Verified = &verified
	if verified {
		return
	}
	a.Reason, a.Detail = "hash-tree", err.Error()
	var be *verity.BlockError
	if errors.As(err, &be) {
		a.Area, a.Block, a.Offset = be.Area, &be.Block, &be.Offset
		if be.Area == verity.AreaHash {
			a.Level, a.FirstDataBlock, a.Covers = &be.Level, &be.First, &be.Count
		}
	}
}

// printVerity prints the fields that veritysetup prints, in its form. Like it, it leaves the size of the
// hash area out when there is something in front of it.
func printVerity(e *env, name string, a *verityAnswer) error {
	if e.json {
		return e.printJSON(a)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "VERITY header information for %s\n", name)
	fmt.Fprintf(&b, "UUID:            \t%s\nHash type:       \t%d\n", a.UUID, a.HashType)
	fmt.Fprintf(&b, "Data blocks:     \t%d\nData block size: \t%d\n", a.DataBlocks, a.DataBlockSize)
	fmt.Fprintf(&b, "Hash blocks:     \t%d\nHash block size: \t%d\n", a.HashBlocks, a.HashBlockSize)
	fmt.Fprintf(&b, "Hash algorithm:  \t%s\n", a.HashAlgorithm)
	if a.FEC != nil {
		fmt.Fprintf(&b, "FEC RS roots:   \t%d\nFEC blocks:     \t%d\n", a.FEC.Roots, a.FEC.Blocks)
	}
	fmt.Fprintf(&b, "Salt:            \t%s\n", a.Salt)
	if a.RootHash != nil {
		fmt.Fprintf(&b, "Root hash:      \t%s\n", a.RootHash)
	}
	if !a.atOffset {
		fmt.Fprintf(&b, "Hash device size: \t%d [bytes]\n", a.HashDeviceSize)
	}
	if a.FEC != nil && a.FEC.Offset == 0 {
		fmt.Fprintf(&b, "FEC device size: \t%d [bytes]\n", a.FEC.Size)
	}
	a.printVerdict(&b)
	e.printf("%s", b.String())
	return nil
}

// printVerdict adds the lines that veritysetup has no form for.
func (a *verityAnswer) printVerdict(b *strings.Builder) {
	if a.Signature != nil && a.Signature.Verified {
		fmt.Fprintf(b, "Signed by:       \t%q, sha256 %s\n", a.Signature.Subject, a.Signature.Certificate)
	}
	if a.Reason != "" {
		fmt.Fprintf(b, "NOT VERIFIED  reason: %s: %s\n", a.Reason, a.Detail)
	}
	for i, path := range a.Files {
		if i == 8 {
			fmt.Fprintf(b, "File:            \tand %d more\n", len(a.Files)-i)
			break
		}
		fmt.Fprintf(b, "File:            \t%q\n", path)
	}
	if a.FEC != nil && a.FEC.Matches != nil && !*a.FEC.Matches {
		fmt.Fprintf(b, "FEC DIFFERS  reason: fec: %s\n", a.FEC.Detail)
	}
	if a.FEC == nil || a.FEC.Repairable == nil {
		return
	}
	if !*a.FEC.Repairable {
		fmt.Fprintf(b, "Repairable:      \tno: %s\n", a.FEC.Detail)
		return
	}
	fmt.Fprintf(b, "Repairable:      \tyes: data blocks %s, hash blocks %s\n", someBlocks(a.FEC.DataBlocks), someBlocks(a.FEC.HashBlocks))
	if a.FEC.Repaired != "" {
		fmt.Fprintf(b, "Repaired:        \t%s\n", a.FEC.Repaired)
	}
}
