package compare

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"
)

// superblock is a hash area of one leaf block for n data blocks.
func superblock(n uint64) []byte {
	b := make([]byte, 8192)
	le := binary.LittleEndian
	copy(b, veritySignature)
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], 1)
	copy(b[32:], "sha256")
	le.PutUint32(b[64:], 4096)
	le.PutUint32(b[68:], 4096)
	le.PutUint64(b[72:], n)
	return b
}

func TestHashTreeRefusals(t *testing.T) {
	if h, err := readHashTree(newSource(superblock(100))); err != nil || h.leaves != 4096 || h.end != 8192 || h.offset(3) != 4096+96 {
		t.Errorf("%+v, %v", h, err)
	}
	for _, c := range []struct {
		off   int
		value byte
		want  string
	}{{8, 2, "version 2"}, {12, 2, "hash type 2"}, {32, 'x', "is not known"}, {65, 0x11, "blocks of 4352"}, {69, 0, "and 0 bytes"}, {81, 2, "salt of 512"}, {79, 1, "no room"}, {73, 1, "no room"}, {72, 0, "0 data blocks"}, {72, 129, "tree of"}} {
		b := superblock(100)
		b[c.off] = c.value
		if _, err := readHashTree(newSource(b)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("byte %d = %d: %v, want %q", c.off, c.value, err, c.want)
		}
	}
	if _, err := readHashTree(newSource(nil)); err == nil {
		t.Error("nothing was read")
	}
}

// FuzzContainer compares anything with a changed copy of itself, as every kind that it claims to be: it must end
// without a panic, and say something about what differs.
func FuzzContainer(f *testing.F) {
	f.Add(superblock(100), uint(4096), byte(1))
	f.Add([]byte("070701"+strings.Repeat("0", 104)), uint(30), byte(1))
	f.Add(append(append(make([]byte, 257), "ustar\x0000"...), make([]byte, 1024)...), uint(1), byte(1))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 1, 9, 0, 0, 'x'}, uint(9), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint, bit byte) {
		if len(b) == 0 || bit == 0 {
			return
		}
		other := bytes.Clone(b)
		other[at%uint(len(b))] ^= bit
		c := newComparer(context.Background(), "a", "b", kindFile, Options{})
		if err := c.container("", newSource(b), newSource(other)); err != nil {
			t.Fatal(err)
		}
		if isHashTree(newSource(b)) && isHashTree(newSource(other)) {
			if err := c.hashTrees("", newSource(b), newSource(other), nil); err != nil {
				t.Fatal(err)
			}
		}
		if r := c.finish(false); len(r.Differences) == 0 {
			t.Errorf("a difference that nothing says")
		}
	})
}

// FuzzManifest reads whatever claims to be a manifest and a lock.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schema":"tally.manifest/v1","inputs":[{"kind":"package","name":"a","version":"1"}],"omitted":["x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newComparer(context.Background(), "a", "b", kindOutput, Options{})
		c.manifests(Difference{}, newSource(b), newSource(append(b, ' ')))
		inputCauses([]Input{{Name: string(b), A: string(b)}, {Name: string(b), B: string(b)}})
	})
}
