package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// compare holds `tally compare` beside cmp on two identical disks of the 103-package image, and beside hashing both
// on two disks of which one file differs; beside diffoscope, too, where that is installed. CI has no time for it.
func (b *bench) compare() error {
	images, err := b.changedFile()
	if err != nil {
		return err
	}
	if err := os.CopyFS(b.path("same"), os.DirFS(b.path("note1"))); err != nil {
		return err
	}
	ms, err := b.race(b.runs, cmd(b.tally, "compare", "--quiet", "note1/disk.raw", "same/disk.raw"), cmd("cmp", "note1/disk.raw", "same/disk.raw"))
	if err != nil {
		return err
	}
	what := "compare of two identical 103-package disks"
	b.beside(what, ms[0], ms[1], "cmp", target{wall: 500 * time.Millisecond, rss: 100 << 10})
	differ := func(args ...string) command { // exit 3, or 1 of the peers, is the answer
		return cmd("sh", "-c", `"$@" >answer; test $? = 3 -o $? = 1`, "sh", args[0], args[1], args[2], args[3])
	}
	ms, err = b.race(b.runs, differ(b.tally, "compare", images[0], images[1]), cmd("sha256sum", images[0], images[1]))
	if err != nil {
		return err
	}
	if _, err := b.once("sh", "-c", `"$@" >answer; grep -q '^  /etc/note  content' answer`, "sh", b.tally, "compare", images[0], images[1]); err != nil {
		return fmt.Errorf("the changed file is not named: %w", err)
	}
	what = "compare, one file changed and named"
	b.beside(what, ms[0], ms[1], "sha256sum of both", target{wall: 2 * time.Second, rss: 200 << 10})
	peer, err := exec.LookPath("diffoscope")
	if err != nil || os.Getenv("CI") != "" {
		return nil
	}
	theirs, err := b.race(1, differ(peer, "--text=-", images[0], images[1]))
	if err != nil {
		return err
	}
	b.beside(what, ms[0], theirs[0], "diffoscope", target{})
	return nil
}

// changedFile builds the image with one local file more, twice: only that file differs. It returns the disks.
func (b *bench) changedFile() (disks [2]string, err error) {
	repo, err := os.Getwd()
	if err != nil {
		return disks, err
	}
	data, err := os.ReadFile(filepath.Join(repo, "internal/bench/testdata/packages103/image.yaml"))
	if err != nil {
		return disks, fmt.Errorf("run in the repository: %w", err)
	}
	up, err := filepath.Rel(b.path("noted"), repo)
	if err != nil {
		return disks, err
	}
	spec := strings.ReplaceAll(string(data), "../../../..", filepath.ToSlash(up))
	spec = strings.Replace(spec, "\ninit:", "\n  - file: {path: note, target: etc/note}\ninit:", 1)
	if err := errors.Join(os.MkdirAll(b.path("noted"), 0o755), os.WriteFile(b.path("noted/image.yaml"), []byte(spec), 0o644)); err != nil {
		return disks, err
	}
	for i, text := range []string{"the first\n", "a second\n"} {
		if err := os.WriteFile(b.path("noted/note"), []byte(text), 0o644); err != nil {
			return disks, err
		}
		out := fmt.Sprintf("note%d", i+1)
		if _, err := b.once(b.tally, "lock", "noted/image.yaml", "-o", "noted/image.lock", "--cache", "cache"); err != nil {
			return disks, err
		}
		if _, err := b.once(b.tally, "build", "noted/image.yaml", "--cache", "cache", "--quiet", "-o", out); err != nil {
			return disks, err
		}
		disks[i] = out + "/disk.raw"
	}
	return disks, nil
}
