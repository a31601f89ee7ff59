package main

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
)

var rootLine = regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`)

// verityOptions make two runs of format write equal bytes.
var verityOptions = []string{"--uuid=01234567-89ab-cdef-0123-456789abcdef", "--salt=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}

// What the hash tree is to cost: by veritysetup's time, and by the time of hashing alone.
var (
	verityLimit = target{ratio: 0.6, rss: 40 << 10}
	floorLimit  = target{ratio: 1.15, rss: 40 << 10}
)

const floorName = "SHA-256 alone, two cores"

// verity hashes and checks 1 GiB beside veritysetup and beside the floor. The hash files must be equal:
// otherwise the figures would be of different jobs.
func (b *bench) verity() error {
	if err := b.fill("data", 1<<30); err != nil {
		return err
	}
	defer os.Remove(b.path("data"))
	floor, err := b.floor("data")
	if err != nil {
		return err
	}
	peer, err := exec.LookPath("veritysetup")
	if err != nil {
		return err
	}
	format := []string{"format", "data"}
	ms, err := b.race(b.runs, b.ours(append(format, "hash.ours")...), cmd(slices.Concat([]string{peer}, format, []string{"hash.theirs"}, verityOptions)...), floor)
	if err != nil {
		return err
	}
	if _, err := b.once("cmp", "hash.ours", "hash.theirs"); err != nil {
		return err
	}
	b.beside("verity format 1 GiB", ms[0], ms[1], "veritysetup", verityLimit)
	b.beside("verity format 1 GiB", ms[0], ms[2], floorName, floorLimit)
	root, err := b.rootHash(peer)
	if err != nil {
		return err
	}
	ms, err = b.race(b.runs, cmd(b.tally, "verity", "verify", "--quiet", "data", "hash.ours", root), cmd(peer, "verify", "data", "hash.theirs", root), floor)
	if err != nil {
		return err
	}
	b.beside("verity verify 1 GiB", ms[0], ms[1], "veritysetup", verityLimit)
	b.beside("verity verify 1 GiB", ms[0], ms[2], floorName, floorLimit)
	if err := b.fec(peer); err != nil {
		return err
	}
	return b.large(floor)
}

// large hashes a file of 4 GiB in one pass.
func (b *bench) large(floor command) error {
	// Four times the size: the rest is a hole, so that memory and disk of a small machine do.
	if err := os.Truncate(b.path("data"), 4<<30); err != nil {
		return err
	}
	ms, err := b.race(min(3, b.runs), b.ours("format", "data", "hash.ours"), floor)
	if err != nil {
		return err
	}
	b.beside("verity format 4 GiB (3 of them a hole)", ms[0], ms[1], floorName, floorLimit)
	return nil
}

// ours is a verity command of tally with the options that fix its bytes.
func (b *bench) ours(args ...string) command {
	return cmd(slices.Concat([]string{b.tally, "verity"}, args, []string{"--quiet"}, verityOptions)...)
}

// floor is this program as the floor of hashing a file.
func (b *bench) floor(name string) (command, error) {
	self, err := os.Executable()
	return cmd(self, "-floor", name), err
}

// rootHash asks the peer for the root hash of data.
func (b *bench) rootHash(peer string) (string, error) {
	c := exec.CommandContext(b.ctx, peer, slices.Concat([]string{"format", "data", "hash.theirs"}, verityOptions)...)
	c.Dir = b.dir
	out, err := c.Output()
	if err != nil {
		return "", err
	}
	m := rootLine.FindSubmatch(out)
	if m == nil {
		return "", errors.New("veritysetup printed no root hash")
	}
	return string(m[1]), nil
}

// fec makes a hash tree and error correction data of 128 MiB beside veritysetup, with equal bytes: the hash
// files must be new, since all of them is covered.
func (b *bench) fec(peer string) error {
	blocks := "--data-blocks=32768"
	ms, err := b.race(min(3, b.runs), b.ours("format", "data", "fechash.ours", "--fec-device", "fec.ours", blocks),
		cmd(slices.Concat([]string{peer, "format", "data", "fechash.theirs", "--fec-device", "fec.theirs", blocks}, verityOptions)...))
	if err != nil {
		return err
	}
	if _, err := b.once("cmp", "fec.ours", "fec.theirs"); err != nil {
		return err
	}
	b.beside("verity format 128 MiB with FEC, 2 roots", ms[0], ms[1], "veritysetup", verityLimit)
	return nil
}
