// Package smallout writes a small directory that looks like what `tally build` and `tally measure image` leave, for
// tests and for the bench.
package smallout

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"tally/release"
)

// Epoch is the image's epoch in seconds.
const Epoch = 1767225600

// Write fills dir.
func Write(dir string) error {
	root := strings.Repeat("ab", 32)
	files := map[string][2]string{ // role, content
		"disk.raw": {"disk", strings.Repeat("disk", 30000)}, "uki.efi": {"uki", "uki"}, "vmlinuz": {"kernel", "kernel"},
		"initrd": {"initrd", "initrd"}, "firmware/ovmf.fd": {"firmware", "firmware"}, "image.yaml": {"spec", "name: minimal\n"},
		"image.lock": {"lock", "{}\n"}, "sources.tar": {"sources", "sources"},
		"cmdline": {"cmdline", "roothash=" + root + " tally.verity=1,sha256,4096,4096,10,1,- tally.scrub=1 panic=-1 console=ttyS0"},
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	var artifacts []map[string]any
	var errs []error
	for _, name := range names {
		errs = append(errs, write(filepath.Join(dir, name), files[name][1]))
		artifacts = append(artifacts, map[string]any{"name": name, "role": files[name][0], "sha256": hash(files[name][1]), "size": len(files[name][1])})
	}
	ref := func(name string) any { return map[string]any{"sha256": hash(files[name][1])} }
	errs = append(errs, writeJSON(filepath.Join(dir, release.Manifest), map[string]any{
		"schema": "tally.manifest/v1", "name": "minimal", "version": "0.1.0", "epoch": Epoch, "layout": 1,
		"spec": ref("image.yaml"), "lock": ref("image.lock"), "sources": ref("sources.tar"), "artifacts": artifacts,
		"verity": map[string]any{
			"algorithm": "sha256", "root_hash": root, "salt": "-", "uuid": "", "data_block_size": 4096, "hash_block_size": 4096,
			"data_blocks": 10, "hash_start": 1, "hash_size": 8192,
		},
		"cmdline": files["cmdline"][1], "firmware": []any{}, "platforms": []any{}, "inputs": []any{}, "omitted": []any{},
	}), writeJSON(filepath.Join(dir, release.ReferenceValues), map[string]any{
		"schema": "tally.reference-values/v1", "values": []any{map[string]any{"launch_digest": strings.Repeat("00", 48)}},
	}))
	return errors.Join(errs...)
}

func hash(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func write(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return write(path, string(data)+"\n")
}
