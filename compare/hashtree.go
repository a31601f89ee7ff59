package compare

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// A hashTree is a dm-verity hash area with its superblock, as veritysetup writes it (the kernel's
// Documentation/admin-guide/device-mapper/verity.rst): superblock block, top level, …, leaf level.
type hashTree struct {
	version, kind        uint32
	uuid, salt           []byte
	algorithm            string
	dataBlock, hashBlock int64
	blocks               uint64
	digest               int64 // bytes of a digest in the tree, padded to a power of two in format 1
	leaves               int64 // offset of the leaf level
	end                  int64 // of the tree
}

const veritySignature = "verity\x00\x00"

func isHashTree(s source) bool {
	b := make([]byte, 8)
	_, err := s.ReadAt(b, 0)
	return err == nil && string(b) == veritySignature
}

// digestSizes are those of the hash names that veritysetup is used with.
var digestSizes = map[string]int64{"sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}

// readHashTree reads the superblock and works out where the leaves are.
func readHashTree(s source) (*hashTree, error) {
	b := make([]byte, 512)
	if _, err := s.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("superblock: %w", err)
	}
	le := binary.LittleEndian
	t := &hashTree{version: le.Uint32(b[8:]), kind: le.Uint32(b[12:]), uuid: b[16:32], algorithm: strings.TrimRight(string(b[32:64]), "\x00"),
		dataBlock: int64(le.Uint32(b[64:])), hashBlock: int64(le.Uint32(b[68:])), blocks: le.Uint64(b[72:])}
	size, ok := digestSizes[t.algorithm]
	saltSize := int(le.Uint16(b[80:]))
	switch {
	case string(b[:8]) != veritySignature || t.version != 1 || t.kind > 1:
		return nil, fmt.Errorf("superblock: version %d, hash type %d: want 1, and 0 or 1", t.version, t.kind)
	case !ok:
		return nil, fmt.Errorf("superblock: hash %.32q is not known", t.algorithm)
	case !powerOfTwo(t.dataBlock) || !powerOfTwo(t.hashBlock):
		return nil, fmt.Errorf("superblock: blocks of %d and %d bytes: want powers of two from 512 to 65536", t.dataBlock, t.hashBlock)
	case saltSize > 256:
		return nil, fmt.Errorf("superblock: salt of %d bytes, want at most 256", saltSize)
	}
	t.salt = b[88 : 88+saltSize]
	return t, t.place(size, s.Size())
}

func powerOfTwo(n int64) bool { return n >= 512 && n <= 65536 && n&(n-1) == 0 }

// place finds the leaf level: all levels lie above it, the top first.
func (t *hashTree) place(digest, size int64) error {
	t.digest = digest
	if t.kind == 1 { // format 1 pads digests to a power of two
		for t.digest = 1; t.digest < digest; t.digest *= 2 {
		}
	}
	per := uint64(t.perBlock())
	if t.blocks == 0 || t.blocks > uint64(size)/uint64(t.digest) {
		return fmt.Errorf("superblock: %d data blocks: the tree has no room for their digests", t.blocks)
	}
	above, leaf := int64(0), int64(0)
	for n := t.blocks; n > 1; {
		n = (n + per - 1) / per
		if leaf == 0 {
			leaf = int64(n)
		} else {
			above += int64(n)
		}
	}
	t.leaves = t.hashBlock * (1 + above)
	t.end = t.leaves + leaf*t.hashBlock
	if t.end > size {
		return fmt.Errorf("superblock: tree of %d bytes in %d", t.end, size)
	}
	return nil
}

// offset is where the digest of a data block is.
func (t *hashTree) offset(block int64) int64 {
	per := t.perBlock()
	return t.leaves + block/per*t.hashBlock + block%per*t.digest
}

// hashTrees compares two hash areas: parameters, then digests.
// data is the partition that they are of, nil when it is not known.
func (c *comparer) hashTrees(where string, a, b source, data *part) error {
	x, err := readHashTree(a)
	if err != nil {
		return c.content(Difference{Layer: LayerVerity, Where: where}, a, b)
	}
	y, err := readHashTree(b)
	if err != nil {
		return c.content(Difference{Layer: LayerVerity, Where: where}, a, b)
	}
	d := Difference{Layer: LayerVerity, Where: where, Path: "superblock"}
	same := true
	for _, f := range []pairField{
		{"hash type", fmt.Sprint(x.kind), fmt.Sprint(y.kind), "verity parameters"},
		{"hash algorithm", x.algorithm, y.algorithm, "verity parameters"},
		{"data block size", fmt.Sprint(x.dataBlock), fmt.Sprint(y.dataBlock), "verity parameters"},
		{"hash block size", fmt.Sprint(x.hashBlock), fmt.Sprint(y.hashBlock), "verity parameters"},
		{"salt", fmt.Sprintf("%x", x.salt), fmt.Sprintf("%x", y.salt), "salt (a random one, or one derived from another name)"},
	} {
		if f.a != f.b {
			same = false
			c.add(d, f.name, f.a, f.b, f.cause)
		}
	}
	if x.blocks != y.blocks {
		same = false
		c.followsRoot(d, "data blocks", fmt.Sprint(x.blocks), fmt.Sprint(y.blocks), "size of the root file system", "verity parameters")
	}
	c.uuids(d, "UUID", x.uuid, y.uuid)
	if !same {
		return nil
	}
	return c.levels(where, x, a, b, data)
}

// levels compares the digests of two trees with equal parameters.
func (c *comparer) levels(where string, t *hashTree, a, b source, data *part) error {
	d := Difference{Layer: LayerVerity, Where: where, Path: "leaf digests"}
	leaves, err := diffBytes(c.ctx, sub(a, t.leaves, t.end-t.leaves), sub(b, t.leaves, t.end-t.leaves), 512)
	if err != nil {
		return err
	}
	if leaves.count > 0 {
		blocks, err := t.differing(a, b, leaves.blocks)
		if err != nil {
			return err
		}
		c.followsRoot(d, "digests", fmt.Sprintf("%d of %d data blocks: %s", len(blocks), t.blocks, numbers(blocks)), usersOfBlocks(data, t, blocks), "digests of other data blocks", "hash tree changed although the data did not: damage or tampering, which dm-verity refuses")
		return nil
	}
	from := int64(32) // behind the UUID, which was compared
	diff, err := diffBytes(c.ctx, sub(a, from, min(a.Size(), b.Size())-from), sub(b, from, min(a.Size(), b.Size())-from), 512)
	if diff.first += from; err == nil && diff.count > 0 {
		d.Path = "above the leaves"
		cause := "damage: the leaves are equal, so what hashes them must be"
		switch {
		case diff.first < t.hashBlock:
			d.Path, cause = "superblock", "reserved bytes of the superblock"
		case diff.first >= t.end:
			d.Path, cause = "behind the tree", causeSlack
		}
		c.add(d, "bytes", fmt.Sprintf("0x%02x at byte %d", diff.x, diff.first), fmt.Sprintf("0x%02x, %d bytes differ", diff.y, diff.count), cause)
	}
	return err
}

// maxChecked is how many differing blocks are held against the hash trees: 256 MiB of data of each side.
const maxChecked = 1 << 16

// crossCheck holds the hash trees against the data, block by block where the data differ: the trees must tell
// the blocks apart that differ. data and tree are the two partitions; a tree is never believed beyond that.
func (c *comparer) crossCheck(data, tree *part) error {
	x, err := readHashTree(tree.a)
	if err != nil {
		return nil // said by hashTrees
	}
	y, err := readHashTree(tree.b)
	if err != nil || x.dataBlock != y.dataBlock {
		return nil
	}
	diff, err := diffBytes(c.ctx, data.a, data.b, x.dataBlock)
	if err != nil {
		return err
	}
	if len(diff.blocks) > maxChecked {
		c.note("%s: %d blocks differ; the hash trees were held against the first %d of them ('tally verity verify' checks all)", data.name, len(diff.blocks), maxChecked)
		diff.blocks = diff.blocks[:maxChecked]
	}
	for _, block := range diff.blocks {
		for _, side := range []struct {
			name string
			t    *hashTree
			data source
			tree source
		}{{"A", x, data.a, tree.a}, {"B", y, data.b, tree.b}} {
			if stands, err := side.t.stands(side.data, side.tree, block); err != nil {
				return err
			} else if !stands {
				c.fallen(data.name, block, side.name)
				return nil
			}
		}
	}
	return nil
}

// fallen records a data block that the hash tree of that side (A or B) does not vouch for.
func (c *comparer) fallen(where string, block int64, side string) {
	d := Difference{Layer: LayerVerity, Where: where, Path: fmt.Sprintf("data block %d", block)}
	a, b := "digest in the hash tree stands", "digest in the hash tree is not that of the block"
	if side == "A" {
		a, b = b, a
	}
	c.add(d, "hash tree", a, b, "data changed after the hash tree was made, in "+side+": damage or tampering, which dm-verity refuses")
}

// stands says whether the digest of a data block in the tree is right. Algorithms other than sha256 and
// blocks behind the tree count as right: there is nothing to hold against them here.
func (t *hashTree) stands(data, tree source, block int64) (bool, error) {
	if t.algorithm != "sha256" || uint64(block) >= t.blocks || t.blocks == 1 {
		return true, nil
	}
	b, want := make([]byte, t.dataBlock), make([]byte, t.digest)
	if n, err := data.ReadAt(b, block*t.dataBlock); n < len(b) {
		if err == io.EOF {
			return false, nil
		}
		return false, err
	}
	if n, err := tree.ReadAt(want, t.offset(block)); n < len(want) {
		return false, err
	}
	h := sha256.New()
	if t.kind == 1 {
		h.Write(t.salt)
	}
	h.Write(b)
	if t.kind == 0 {
		h.Write(t.salt)
	}
	return bytes.Equal(h.Sum(nil), want), nil
}
