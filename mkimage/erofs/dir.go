package erofs

import (
	"encoding/binary"
	"sort"

	"tally/mkimage/tree"
)

const direntSize = 12 // struct erofs_dirent

// sortChildren puts "." and ".." in their bytewise places, which the kernel's binary search asks for.
func sortChildren(c []child) {
	sort.SliceStable(c, func(i, j int) bool { return c[i].name < c[j].name })
}

// fill returns how many of the children go into one directory block, and the bytes they take.
func fill(c []child) (count int, used int64) {
	for ; count < len(c); count++ {
		need := direntSize + int64(len(c[count].name))
		if used+need > BlockSize {
			break
		}
		used += need
	}
	return count, used
}

// dirSize is i_size of a directory: whole blocks and what the last one uses.
func (n *node) dirSize() int64 {
	size := int64(0)
	for c := n.children; len(c) > 0; {
		count, used := fill(c)
		if c = c[count:]; len(c) == 0 {
			return size + used
		}
		size += BlockSize
	}
	return size
}

// dirBlock encodes the first count children: their fixed-size entries, then their names without NUL.
func dirBlock(c []child, count int) []byte {
	b := make([]byte, BlockSize)
	nameOff := count * direntSize
	for i, ch := range c[:count] {
		ent := b[i*direntSize:]
		binary.LittleEndian.PutUint64(ent, ch.node.nid())
		binary.LittleEndian.PutUint16(ent[8:], uint16(nameOff))
		ent[10] = fileTypes[ch.node.e.Kind]
		nameOff += copy(b[nameOff:], ch.name)
	}
	return b
}

// dirBytes calls emit with the bytes of each directory block: the inline tail alone when tail is true,
// all whole blocks else.
func (n *node) dirBytes(tail bool, emit func([]byte) error) error {
	left := n.blocks
	for c := n.children; len(c) > 0; {
		count, used := fill(c)
		inline := left == 0
		if inline == tail {
			b := dirBlock(c, count)
			if inline {
				b = b[:used]
			}
			if err := emit(b); err != nil {
				return err
			}
		}
		c = c[count:]
		left--
		if left < 0 {
			break
		}
	}
	return nil
}

// fileTypes are the EROFS_FT_ codes of directory entries.
var fileTypes = [...]byte{tree.File: 1, tree.Dir: 2, tree.CharDev: 3, tree.BlockDev: 4, tree.FIFO: 5, tree.Symlink: 7}
