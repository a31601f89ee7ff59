package disk

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"

	"github.com/diskfs/go-diskfs/backend"
)

// noSync hides Sync from go-diskfs, which would flush the whole disk to the medium five times. Whoever
// publishes the file decides about durability.
type noSync struct {
	backend.File
	w *os.File
}

func (n noSync) WriteAt(p []byte, off int64) (int, error) { return n.w.WriteAt(p, off) }

// memory is a backend of fixed size. Writing beyond its end is an error: go-diskfs's allocator counts the
// padding of the FAT as clusters, and on a disk that would run into the next partition.
type memory struct {
	*bytes.Reader
	b []byte
}

func newMemory(size int64) *memory {
	b := make([]byte, size)
	return &memory{bytes.NewReader(b), b}
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m.b)) {
		return 0, fmt.Errorf("no space left: %d bytes at offset %d of %d", len(p), off, len(m.b))
	}
	return copy(m.b[off:], p), nil
}

func (m *memory) Stat() (fs.FileInfo, error)              { return nil, backend.ErrNotSuitable }
func (m *memory) Close() error                            { return nil }
func (m *memory) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (m *memory) Writable() (backend.WritableFile, error) { return m, nil }
func (m *memory) Path() string                            { return "" }

// Bytes of a GPT with 128 entries in front of the partitions (protective MBR, header, entries) and behind
// them (entries, header).
const (
	headSize = 34 * sectorSize
	tailSize = 33 * sectorSize
)

// A frame is the first and the last sectors of a disk that is not there yet. Writing elsewhere is an error.
type frame struct {
	*memory // the head, for what nobody calls: a table is written and not read
	tail    *memory
	tailAt  int64
}

func newFrame(size int64) *frame {
	return &frame{newMemory(headSize), newMemory(tailSize), size - tailSize}
}

func (f *frame) WriteAt(p []byte, off int64) (int, error) {
	if off >= f.tailAt {
		return f.tail.WriteAt(p, off-f.tailAt)
	}
	return f.memory.WriteAt(p, off)
}
