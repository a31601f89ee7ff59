package disk

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/diskfs/go-diskfs/filesystem/fat32"
)

const (
	maxESP  = 4 << 30 // it is built in memory
	maxPath = 200
)

// buildESP returns the bytes of the ESP partition.
func (l *Layout) buildESP(ctx context.Context, files []File) ([]byte, error) {
	files = append([]File(nil), files...)
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	if err := checkFiles(files, l.spec.ESPPayload); err != nil {
		return nil, err
	}
	m := newMemory(l.ESP.Size)
	fs, err := fat32.Create(m, l.ESP.Size, 0, sectorSize, "ESP", true)
	if err != nil {
		return nil, err
	}
	made := map[string]bool{".": true}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if dir := path.Dir(file.Path); !made[dir] {
			if err := fs.Mkdir(dir); err != nil {
				return nil, err
			}
			made[dir] = true
		}
		if err := writeFile(fs, file); err != nil {
			return nil, fmt.Errorf("file %q: %w", file.Path, err)
		}
	}
	serial := derive(l.spec.Name, "esp serial")
	return m.b, finishFAT(m.b, fatFields{
		serial: binary.LittleEndian.Uint32(serial[:4]),
		hidden: uint32(l.ESP.Offset / sectorSize),
		epoch:  l.spec.Epoch,
	})
}

func writeFile(fs *fat32.FileSystem, file File) error {
	w, err := fs.OpenFile(file.Path, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	if _, err := w.Write(file.Data); err != nil {
		return err
	}
	return w.Close()
}

// checkFiles refuses what FAT would store in more than one way: names that differ by case only, names
// that need a code page.
func checkFiles(files []File, payload int64) error {
	total := int64(0)
	seen := map[string]string{}
	for _, file := range files {
		if len(file.Path) > maxPath || path.Clean("/"+file.Path) != "/"+file.Path {
			return fmt.Errorf("file %.64q: want a clean relative path of at most %d bytes", file.Path, maxPath)
		}
		bad := strings.TrimLeft(file.Path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")
		if file.Path == "" || bad != "" {
			return fmt.Errorf("file %q: want letters, digits and \"._-\" only", file.Path)
		}
		folded := strings.ToUpper(file.Path)
		if other, ok := seen[folded]; ok {
			return fmt.Errorf("file %q: FAT cannot tell it from %q", file.Path, other)
		}
		seen[folded] = file.Path
		if len(file.Data) == 0 || int64(len(file.Data)) >= 1<<32 {
			return fmt.Errorf("file %q: %d bytes, want 1 to %d", file.Path, len(file.Data), uint32(1<<32-1))
		}
		total += int64(len(file.Data))
	}
	if len(files) == 0 || len(files) > 64 || total > payload {
		return fmt.Errorf("%d files of %d bytes: want 1 to 64 files of at most the %d bytes planned", len(files), total, payload)
	}
	return nil
}
