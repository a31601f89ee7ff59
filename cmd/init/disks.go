//go:build linux && amd64

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxDisks is how many disks are looked at; a host may attach as many as it likes.
const maxDisks = 64

// A devTree says where the kernel's files are; tests put others there.
type devTree struct {
	block string // a directory with one entry per disk
	dev   string // device nodes
}

var sysfs = devTree{block: "/sys/block", dev: "/dev"}

// A partition is a block device that a table entry and the kernel agree on.
type partition struct {
	Name  string // vda2
	Dev   string // MAJOR:MINOR
	Bytes uint64
}

// waitForPartitions looks for two partitions by their PARTUUIDs until both are there or the time is over.
func waitForPartitions(t devTree, ids partUUIDs, limit time.Duration) (data, hash partition, err error) {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if data, hash, err = t.find(ids); err == nil || !errors.Is(err, errAbsent) || time.Since(start) > limit {
			return data, hash, err
		}
	}
}

var errAbsent = errors.New("not found")

// find looks through all disks once. A PARTUUID that stands twice is refused: which of them verity would
// read must not depend on the order in which devices appear.
func (t devTree) find(ids partUUIDs) (data, hash partition, err error) {
	found := map[string][]partition{}
	var notes []string
	disks, err := os.ReadDir(t.block)
	if err != nil {
		return data, hash, err
	}
	for _, d := range disks[:min(len(disks), maxDisks)] {
		entries, err := t.entries(d.Name())
		if errors.Is(err, errNoGPT) {
			continue
		}
		for _, e := range entries {
			if e.PartUUID != ids.Data && e.PartUUID != ids.Hash {
				continue
			}
			p, perr := t.partition(d.Name(), e)
			if perr == nil {
				found[e.PartUUID] = append(found[e.PartUUID], p)
			}
			err = errors.Join(err, perr)
		}
		if err != nil {
			notes = append(notes, d.Name()+": "+err.Error())
		}
	}
	for _, id := range []string{ids.Data, ids.Hash} {
		switch n := len(found[id]); {
		case n > 1:
			return data, hash, fmt.Errorf("PARTUUID %s: on %s and on %s: want it once", id, found[id][0].Name, found[id][1].Name)
		case n == 0:
			return data, hash, fmt.Errorf("PARTUUID %s: %w on %d disks; %s", id, errAbsent, len(disks), strings.Join(notes, "; "))
		}
	}
	return found[ids.Data][0], found[ids.Hash][0], nil
}

// entries reads the partition table of a disk.
func (t devTree) entries(disk string) ([]gptEntry, error) {
	size, err := t.number(disk, "size")
	if err != nil || size == 0 {
		return nil, errNoGPT
	}
	sector, err := t.sector(disk)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(t.dev, disk))
	if err != nil {
		return nil, errNoGPT // an empty drive, or the node is not there yet
	}
	defer f.Close()
	return readGPT(f, int64(sector))
}

func (t devTree) sector(disk string) (uint64, error) {
	return t.number(disk, "queue/logical_block_size")
}

// partition finds the kernel's device for a table entry and wants it to be what the entry says.
func (t devTree) partition(disk string, e gptEntry) (partition, error) {
	sector, err := t.sector(disk)
	if err != nil {
		return partition{}, err
	}
	dirs, err := os.ReadDir(filepath.Join(t.block, disk))
	if err != nil {
		return partition{}, err
	}
	i := slices.IndexFunc(dirs, func(d os.DirEntry) bool {
		n, err := t.number(disk, d.Name()+"/partition")
		return err == nil && n == uint64(e.Number)
	})
	if i < 0 {
		return partition{}, fmt.Errorf("partition %d: not there yet", e.Number)
	}
	name := dirs[i].Name()
	start, err := t.number(disk, name+"/start") // both in sectors of 512 bytes
	size, err2 := t.number(disk, name+"/size")
	if err := errors.Join(err, err2); err != nil {
		return partition{}, err
	}
	if start*512 != e.First*sector || size*512 != (e.Last-e.First+1)*sector {
		return partition{}, fmt.Errorf("partition %d: the kernel has %d sectors from %d, the table says %d to %d", e.Number, size, start, e.First, e.Last)
	}
	dev, err := os.ReadFile(filepath.Join(t.block, disk, name, "dev"))
	return partition{Name: name, Dev: strings.TrimSpace(string(dev)), Bytes: size * 512}, err
}

func (t devTree) number(disk, file string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(t.block, disk, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}
