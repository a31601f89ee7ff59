//go:build linux && amd64

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeDisks is a devTree of ordinary files.
type fakeDisks struct {
	t *testing.T
	devTree
}

func newFakeDisks(t *testing.T) fakeDisks {
	dir := t.TempDir()
	f := fakeDisks{t, devTree{block: filepath.Join(dir, "block"), dev: filepath.Join(dir, "dev")}}
	f.write(f.dev, "x", "")
	f.write(f.block+"/loop0", "size", "0\n") // as every kernel has some
	return f
}

func (f fakeDisks) write(dir, name, text string) {
	f.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// add attaches a disk and, for each entry, the partition the kernel would make of it.
func (f fakeDisks) add(name string, sector int, parts ...gptEntry) {
	f.t.Helper()
	b := table(sector, parts...)
	for i, p := range parts {
		copy(b[2*sector+i*128+16:], onDisk(f.t, p.PartUUID))
		child := fmt.Sprintf("%s/%s/%s%d", f.block, name, name, i+1)
		f.write(child, "partition", fmt.Sprintln(i+1))
		f.write(child, "start", fmt.Sprintln(p.First*uint64(sector)/512))
		f.write(child, "size", fmt.Sprintln((p.Last-p.First+1)*uint64(sector)/512))
		f.write(child, "dev", fmt.Sprintf("254:%d\n", i+1))
	}
	seal(b, sector)
	f.write(f.dev, name, string(b))
	f.write(f.block+"/"+name, "size", "1000\n")
	f.write(f.block+"/"+name+"/queue", "logical_block_size", fmt.Sprintln(sector))
}

// onDisk is the mixed-endian form of a GUID.
func onDisk(t *testing.T, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		t.Fatalf("GUID %q", text)
	}
	return append([]byte{b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6]}, b[8:]...)
}

var (
	diskRoot  = strings.Repeat("0123456789abcdef", 2) + strings.Repeat("fedcba9876543210", 2)
	diskIDs   = rootPartUUIDs(diskRoot)
	dataPart  = gptEntry{PartUUID: diskIDs.Data, First: 20, Last: 39}
	hashPart  = gptEntry{PartUUID: diskIDs.Hash, First: 40, Last: 49}
	otherPart = gptEntry{PartUUID: "11111111-1111-4111-8111-111111111111", First: 10, Last: 19}
)

func TestFind(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		f := newFakeDisks(t)
		f.add("sda", sector, otherPart)
		f.add("vda", sector, otherPart, dataPart, hashPart)
		data, hash, err := f.find(diskIDs)
		want := [2]partition{{"vda2", "254:2", uint64(20 * sector)}, {"vda3", "254:3", uint64(10 * sector)}}
		if got := [2]partition{data, hash}; err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}

func TestFindOnTwoDisks(t *testing.T) {
	f := newFakeDisks(t)
	f.add("vda", 512, hashPart)
	f.add("vdb", 4096, dataPart)
	data, hash, err := f.find(diskIDs)
	if err != nil || data.Name != "vdb1" || hash.Name != "vda1" {
		t.Errorf("%+v, %+v, %v", data, hash, err)
	}
}

func TestFindRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		setup  func(f fakeDisks)
		absent bool // later disks may help
		want   string
	}{
		"nothing":     {func(f fakeDisks) {}, true, "PARTUUID " + diskIDs.Data},
		"only data":   {func(f fakeDisks) { f.add("vda", 512, dataPart) }, true, "PARTUUID " + diskIDs.Hash},
		"twice":       {func(f fakeDisks) { f.add("vda", 512, dataPart, hashPart); f.add("vdb", 512, dataPart) }, false, "on vda1 and on vdb1"},
		"twice, same": {func(f fakeDisks) { f.add("vda", 512, dataPart, hashPart, dataPart) }, false, "on vda1 and on vda3"},
		"damaged": {func(f fakeDisks) {
			f.add("vda", 512, dataPart, hashPart)
			b, _ := os.ReadFile(f.dev + "/vda")
			b[1024+16] ^= 1
			f.write(f.dev, "vda", string(b))
		}, true, "vda: GPT entries: checksum"},
		"no device yet": {func(f fakeDisks) {
			f.add("vda", 512, dataPart, hashPart)
			os.RemoveAll(f.block + "/vda/vda2")
		}, true, "partition 2: not there yet"},
		"kernel disagrees": {func(f fakeDisks) {
			f.add("vda", 512, dataPart, hashPart)
			f.write(f.block+"/vda/vda1", "size", "21\n")
		}, true, "the kernel has 21 sectors from 20, the table says 20 to 39"},
		"odd sectors": {func(f fakeDisks) {
			f.add("vda", 512, dataPart, hashPart)
			f.write(f.block+"/vda/queue", "logical_block_size", "520\n")
		}, true, "sectors of 520 bytes"},
	} {
		f := newFakeDisks(t)
		c.setup(f)
		_, _, err := f.find(diskIDs)
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, errAbsent) != c.absent {
			t.Errorf("%s: error %v, want %q, absent %v", name, err, c.want, c.absent)
		}
	}
}

func TestWaitForPartitions(t *testing.T) {
	f := newFakeDisks(t)
	go func() {
		time.Sleep(30 * time.Millisecond)
		f.add("vda", 512, dataPart, hashPart)
	}()
	if _, _, err := waitForPartitions(f.devTree, diskIDs, time.Minute); err != nil {
		t.Error(err)
	}
	if _, _, err := waitForPartitions(newFakeDisks(t).devTree, diskIDs, 0); !errors.Is(err, errAbsent) {
		t.Errorf("error %v", err)
	}
}
