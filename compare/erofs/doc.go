// Package erofs reads uncompressed EROFS images: every inode, every path, and which path owns which block.
//
// It shares no code with the writer in mkimage/erofs, so that it can be held against it. The format is that of
// Linux, fs/erofs/erofs_fs.h; all integers are little-endian:
//
//	superblock  at byte 1024: magic e2e1f5e0, CRC-32C, block size, root nid, build time, blocks, where metadata
//	            and shared xattrs begin, UUID, label, feature_incompat
//	inode       at metadata start + 32 * nid: compact (32 bytes; its time is the build time) or extended (64)
//	            by bit 0 of i_format; bits 1-3 are the data layout: 0 plain blocks, 2 plain blocks and a tail
//	            behind the inode and its xattrs
//	xattrs      header of 12 bytes, numbers of shared entries, own entries padded to 4 bytes
//	directory   blocks of 12-byte entries (nid, offset of the name, type) and then the names
//
// Read are layout v1 of this project and what mkfs.erofs writes without compression. Compressed and
// chunk-based files, extra devices, fragments and long xattr prefixes are refused, as is every feature that is
// not known here.
//
// Nothing in an image is believed: extents must lie in the image, directories may be reached once and may not
// share blocks, names, paths and the sums of all paths, targets and xattrs have caps.
package erofs
