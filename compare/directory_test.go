package compare

import (
	"io/fs"
	"syscall"
	"testing"
	"time"
)

// An info is what a file system says of a device.
type info struct {
	fs.FileInfo
	mode fs.FileMode
}

func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) Sys() any           { return &syscall.Stat_t{Rdev: 0x800} }

// TestDevices: a block device is no character device of the same number.
func TestDevices(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{fs.ModeDevice: "block device", fs.ModeDevice | fs.ModeCharDevice: "character device", fs.ModeIrregular: ""} {
		n, err := diskNode("d/n", "/n", info{mode: mode | 0o600})
		switch {
		case want == "":
			if err == nil {
				t.Errorf("%s: a %s", mode, n.kind)
			}
		case err != nil || n.kind != want || n.device != "0x800":
			t.Errorf("%s: %+v, %v, want a %s", mode, n, err, want)
		}
	}
}
