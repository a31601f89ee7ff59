package e2e

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tally/internal/qemu"
	"tally/internal/testtool"
	"tally/mkimage"
	"tally/verity"
)

// Exit codes of tally run.
const (
	failed      = 1
	notVerified = 4
)

// TestBoot boots the image, untouched and tampered with, in the real QEMU with a stock kernel.
func TestBoot(t *testing.T) {
	l := built(t)
	testtool.Need(t, qemu.Binary)
	words := string(read(t, filepath.Join(l.out, "cmdline")))
	for _, c := range []struct {
		name string
		args []string            // of tally run
		flip func(layout) int64  // offset on the disk; nil: none
		edit func(string) string // of the command line
		code int
		says string // on stdout or stderr
	}{
		{name: "uki", args: []string{"--boot", "uki"}, says: "served after"},
		{name: "direct", says: "all "},
		{name: "direct through OVMF", args: []string{"--firmware", "ovmf"}, says: "served after"},
		{name: "last data block", flip: func(l layout) int64 { return l.data + l.dataSize - 1 }, code: notVerified, says: "is corrupted"},
		{name: "last data block, uki", args: []string{"--boot", "uki"}, flip: func(l layout) int64 { return l.data + l.dataSize - 1 }, code: notVerified, says: "is corrupted"},
		{name: "leaf of the hash tree", flip: func(l layout) int64 { return l.hash + l.hashSize - verity.BlockSize + 5 }, code: notVerified, says: "metadata block"},
		{name: "top of the hash tree", flip: func(l layout) int64 { return l.hash + verity.BlockSize + 40 }, code: notVerified, says: "metadata block 1 is corrupted"},
		{name: "superblock, which nothing reads", flip: func(l layout) int64 { return l.hash + 72 }, says: "served after"},
		{name: "two root hashes", edit: func(s string) string { return s + " roothash=" + strings.Repeat("0", 64) }, code: failed, says: "refused: tally-init: refused: command line: roothash= stands there more than once"},
		{name: "no root hash", edit: func(s string) string { return strings.Replace(s, "roothash=", "root_hash=", 1) }, code: failed, says: "no roothash="},
		{name: "other salt", edit: otherSalt, code: notVerified, says: "is corrupted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, args := l.out, []string{"run", "--until-serving", "--accel", "tcg"}
			if c.edit != nil {
				from = editedOut(t, l.out, c.edit(words))
			}
			if c.flip != nil {
				args = append(args, "--disk", flippedDisk(t, l.out, c.flip(layoutOf(t, l.out))))
			}
			if len(c.args) == 0 || c.args[0] != "--boot" {
				args = append(args, "--boot", "direct")
			}
			cmd := exec.Command(l.tally, append(append(args, c.args...), from)...)
			said, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(said), c.says) {
				t.Errorf("exit %d (%v), want %d and %q\n%s", code, err, c.code, c.says, said)
			}
			// A refusal comes before the first instruction of the root: the scrub, which runs before the
			// mount, is what reads a block that nothing else needs.
			if started := strings.Contains(string(said), "starting /sbin/init"); started != (c.code == 0) {
				t.Errorf("the root was started: %v\n%s", started, said)
			}
		})
	}
}

// otherSalt changes the last digit of the salt on the command line.
func otherSalt(s string) string {
	i := strings.Index(s, " tally.scrub") - 1
	return s[:i] + string("10"[min(1, int(s[i]-'0')&1)]) + s[i+1:]
}

// A layout says where ESP, root and hash tree lie on the disk, in bytes.
type layout struct{ esp, data, dataSize, hash, hashSize int64 }

func layoutOf(t *testing.T, out string) layout {
	t.Helper()
	m, err := mkimage.ParseManifest(read(t, filepath.Join(out, "manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	table := read(t, filepath.Join(out, "disk.raw"))[1024:] // UEFI: entries of 128 bytes from sector 2; the first sector stands at 32
	first := func(i int) int64 { return int64(binary.LittleEndian.Uint64(table[i*128+32:])) * 512 }
	return layout{first(0), first(1), int64(m.Verity.DataBlocks) * verity.BlockSize, first(2), m.Verity.HashSize}
}

// flippedDisk is OUT's disk with one bit changed.
func flippedDisk(t *testing.T, out string, off int64) string {
	t.Helper()
	b := read(t, filepath.Join(out, "disk.raw"))
	b[off] ^= 1
	p := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// editedOut is OUT with another command line.
func editedOut(t *testing.T, out, cmdline string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"disk.raw", "vmlinuz", "initrd", "manifest.json", "firmware"} {
		if err := os.Symlink(filepath.Join(out, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(cmdline), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
