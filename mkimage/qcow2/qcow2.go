// Package qcow2 writes a disk as a qcow2 image, QEMU's format for clouds that want one file.
//
// The format is that of QEMU, docs/interop/qcow2.rst: version 3, clusters of 64 KiB, no feature, no
// extension, no backing file, no compression; big-endian. Layout v1 puts into one file, each from the next
// whole cluster on:
//
//	header           104 bytes
//	refcount table   8 bytes per refcount block
//	refcount blocks  16 bits per cluster of the file: 1 for each
//	L1 table         8 bytes per 512 MiB of the disk
//	L2 tables        for each 512 MiB that is not all zero, ascending: 8 bytes per cluster of the disk
//	data             the clusters that are not all zero, ascending
//
// An entry of L1 or L2 is the offset with bit 63 (its count is exactly one); 0 is a cluster of zeros. A
// short last cluster of the disk is filled up with zeros.
package qcow2

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"tally/mkimage/internal/extent"
)

const (
	cluster     = 64 << 10    // extent.Unit
	perL2       = cluster / 8 // entries of an L2 table
	perRefcount = cluster / 2
	copied      = 1 << 63
	maxSize     = 1 << 41 // bytes, what a disk of layout v1 can have
)

// A plan says where the parts lie, in clusters.
type plan struct {
	size       int64
	used       []int64 // clusters of the disk that are stored, ascending
	l2         []int64 // L1 indexes that have a table, ascending
	l1Entries  int64
	l1Clusters int64
	refBlocks  int64
	refTables  int64
	total      int64 // clusters of the file
}

// Write writes the first size bytes of r, a multiple of 512, and returns the number of bytes written.
func Write(ctx context.Context, w io.Writer, r io.ReaderAt, size int64) (int64, error) {
	if size < 512 || size%512 != 0 || size > maxSize {
		return 0, fmt.Errorf("qcow2: disk of %d bytes: want a multiple of 512 up to %d", size, int64(maxSize))
	}
	ranges, err := extent.Scan(ctx, r, size)
	if err != nil {
		return 0, fmt.Errorf("qcow2: %w", err)
	}
	p := newPlan(size, ranges)
	out := bufio.NewWriterSize(w, 1<<20)
	p.metadata(out) // a bufio.Writer keeps its error: Flush reports it
	buf := make([]byte, cluster)
	for _, c := range p.used {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n := min(cluster, size-c*cluster)
		clear(buf[n:])
		if err := extent.ReadFull(r, buf[:n], c*cluster); err != nil {
			return 0, fmt.Errorf("qcow2: %w", err)
		}
		if _, err := out.Write(buf); err != nil {
			return 0, err
		}
	}
	return p.total * cluster, out.Flush()
}

func newPlan(size int64, ranges []extent.Range) *plan {
	p := &plan{size: size}
	for _, r := range ranges {
		for c := r.Offset / cluster; c*cluster < r.Offset+r.Size; c++ {
			p.used = append(p.used, c)
			if i := c / perL2; len(p.l2) == 0 || p.l2[len(p.l2)-1] != i {
				p.l2 = append(p.l2, i)
			}
		}
	}
	p.l1Entries = divUp(size, cluster*perL2)
	p.l1Clusters = divUp(p.l1Entries*8, cluster)
	rest := 1 + p.l1Clusters + int64(len(p.l2)+len(p.used))
	// The counts count themselves.
	for {
		p.total = rest + p.refTables + p.refBlocks
		blocks := divUp(p.total, perRefcount)
		tables := divUp(blocks*8, cluster)
		if blocks == p.refBlocks && tables == p.refTables {
			return p
		}
		p.refBlocks, p.refTables = blocks, tables
	}
}

// metadata writes all that comes before the data.
func (p *plan) metadata(w *bufio.Writer) {
	be := binary.BigEndian
	blocks := 1 + p.refTables // first refcount block
	l1 := blocks + p.refBlocks
	l2 := l1 + p.l1Clusters
	data := l2 + int64(len(p.l2))

	h := make([]byte, cluster)
	copy(h, "QFI\xfb")
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], 16) // cluster_bits
	be.PutUint64(h[24:], uint64(p.size))
	be.PutUint32(h[36:], uint32(p.l1Entries))
	be.PutUint64(h[40:], uint64(l1*cluster))
	be.PutUint64(h[48:], cluster) // refcount table
	be.PutUint32(h[56:], uint32(p.refTables))
	be.PutUint32(h[96:], 4) // refcount_order: 16 bits
	be.PutUint32(h[100:], 104)
	w.Write(h)

	table := make([]byte, p.refTables*cluster)
	for i := range p.refBlocks {
		be.PutUint64(table[i*8:], uint64((blocks+i)*cluster))
	}
	w.Write(table)
	counts := make([]byte, p.refBlocks*cluster)
	for i := range p.total {
		be.PutUint16(counts[i*2:], 1)
	}
	w.Write(counts)
	p.tables(w, l2, data)
}

// tables writes L1 and L2, whose tables and data begin at the given clusters of the file.
func (p *plan) tables(w *bufio.Writer, l2, data int64) {
	be := binary.BigEndian
	l1 := make([]byte, p.l1Clusters*cluster)
	for i, index := range p.l2 {
		be.PutUint64(l1[index*8:], uint64((l2+int64(i))*cluster)|copied)
	}
	w.Write(l1)
	next := 0
	for _, index := range p.l2 {
		table := make([]byte, cluster)
		for ; next < len(p.used) && p.used[next]/perL2 == index; next++ {
			be.PutUint64(table[p.used[next]%perL2*8:], uint64((data+int64(next))*cluster)|copied)
		}
		w.Write(table)
	}
}

func divUp(n, unit int64) int64 { return (n + unit - 1) / unit }
