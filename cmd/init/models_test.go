//go:build linux && amd64

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const modelLine = "tiny srv/models/tiny roothash=" + noHash + " tally.verity=1,sha256,4096,4096,12,1,aa00 tally.partitions=" + modelData + "," + modelHash + "\n"

const (
	noHash    = "0000000000000000000000000000000000000000000000000000000000000000"
	modelData = "c6c8d8fc-511a-88fd-8abb-6ab18526b0a0"
	modelHash = "66c401a0-f92e-89ae-a94a-abc9f95ea931"
)

func TestParseModels(t *testing.T) {
	all, err := parseModels(modelsHead + "\n" + modelLine)
	if err != nil || len(all) != 1 || all[0].Name != "tiny" || all[0].Mount != "srv/models/tiny" || all[0].Volume.RootHash != noHash || all[0].Volume.DataBlocks != 12 ||
		all[0].Volume.HashStart != 1 || all[0].Volume.Salt != "aa00" || all[0].Parts != (partUUIDs{modelData, modelHash}) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{modelsHead, "tally.models/v2", "want the line tally.models/v1"},
		{modelHash + "\n", modelHash, "whole lines"},
		{modelLine, "", "1 words"},
		{modelLine, "\n", "want NAME MOUNT"},
		{"tiny ", "Tiny ", `line 2: name "Tiny": want lower-case`},
		{"tiny ", "../x ", `name "../x"`},
		{"tiny ", strings.Repeat("a", 65) + " ", "name"},
		{" srv/models/tiny", " /srv", `mount point "/srv": want a clean path below the root`},
		{" srv/models/tiny", " ../srv", `mount point "../srv"`},
		{" srv/models/tiny", " .", `mount point "."`},
		{" srv/models/tiny", " ..", `mount point ".."`},
		{" srv/models/tiny", " srv/../../etc", `mount point "srv/../../etc"`},
		{" srv/models/tiny", " srv//tiny", `mount point "srv//tiny"`},
		{" srv/models/tiny", "  ", "6 words"},
		{" tally.partitions=" + modelData + "," + modelHash, "", "4 words, want NAME MOUNT roothash=… tally.verity=… tally.partitions=…"},
		{"tally.partitions=", "tally.parts=", "want tally.partitions="},
		{"," + modelHash, "", "want two PARTUUIDs in lower case"},
		{"," + modelHash, "," + modelHash + ",", "want two PARTUUIDs in lower case"},
		{modelHash, strings.ToUpper(modelHash), "want two PARTUUIDs in lower case"},
		{modelHash, modelHash[:35], "want two PARTUUIDs in lower case"},
		{modelHash, strings.ReplaceAll(modelHash, "-", ""), "want two PARTUUIDs in lower case"},
		{modelHash, strings.Replace(modelHash, "6", "g", 1), "want two PARTUUIDs in lower case"},
		{modelHash, modelData, "want two PARTUUIDs that differ"},
		{"roothash=" + noHash, "roothash=" + noHash[1:], "want 64 lower-case hex digits"},
		{"roothash=", "usrhash=", `want roothash=`},
		{"tally.verity=1", "tally.verity=0", "want 1,sha256,4096,4096"},
		{",12,", ",0,", "data blocks"},
		{"aa00", "AA", "salt"},
		{modelLine, modelLine + modelLine, "line 3: name, mount point, root hash or PARTUUID of tiny again"},
		{modelLine, modelLine + strings.NewReplacer("tiny ", "other ", "srv", "opt", modelData, otherPart.PartUUID, modelHash, diskIDs.Hash).Replace(modelLine), "line 3: name, mount point, root hash or PARTUUID of tiny again"},
		{modelLine, modelLine + strings.NewReplacer("tiny ", "other ", "srv", "opt", noHash, diskRoot, modelHash, otherPart.PartUUID, modelData, modelHash).Replace(modelLine), "line 3: name, mount point, root hash or PARTUUID of tiny again"},
		{modelLine, strings.Repeat("x", 65537-len(modelsHead+"\n")), "more than 65536 bytes"},
		{modelLine, strings.Repeat("x", 65536-len(modelsHead+"\n")), "whole lines"},
	} {
		text := strings.Replace(modelsHead+"\n"+modelLine, c.old, c.new, 1)
		if _, err := parseModels(text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80q: error %v, want one with %q", c.new, err, c.want)
		}
	}
}

// TestTwoModels: two volumes that share nothing are fine.
func TestTwoModels(t *testing.T) {
	other := strings.NewReplacer("tiny", "other", noHash, diskRoot, modelData, diskIDs.Data, modelHash, diskIDs.Hash).Replace(modelLine)
	if all, err := parseModels(modelsHead + "\n" + modelLine + other); err != nil || len(all) != 2 || all[1].Parts != diskIDs {
		t.Errorf("%+v, %v", all, err)
	}
	for _, c := range []struct{ old, new string }{{"other ", "tiny "}, {"srv/models/other", "srv/models/tiny"}, {diskRoot, noHash}, {diskIDs.Data, modelData},
		{diskIDs.Data, modelHash}, {diskIDs.Hash, modelData}, {diskIDs.Hash, modelHash}} {
		if all, err := parseModels(modelsHead + "\n" + modelLine + strings.Replace(other, c.old, c.new, 1)); err == nil || !strings.Contains(err.Error(), "line 3: ") {
			t.Errorf("%s as in the line before: %+v, %v", c.old, all, err)
		}
	}
}

// TestManyModels: there are so many at most.
func TestManyModels(t *testing.T) {
	text := modelsHead + "\n"
	for i := range maxModels + 1 {
		all, err := parseModels(text)
		if i > 0 && (err != nil || len(all) != i) {
			t.Errorf("%d models: %d, %v", i, len(all), err)
		}
		id := func(n int) string { return fmt.Sprintf("%08x-0000-0000-0000-000000000000", n) }
		text += strings.NewReplacer("tiny", fmt.Sprint("m", i), noHash, fmt.Sprintf("%064x", i), modelData, id(2*i), modelHash, id(2*i+1)).Replace(modelLine)
	}
	if _, err := parseModels(text); err == nil || err.Error() != "more than 16 models" {
		t.Errorf("%d models: %v", maxModels+1, err)
	}
}

func TestReadModels(t *testing.T) {
	root := t.TempDir()
	if all, err := readModels(root); err != nil || all != nil {
		t.Errorf("no file: %v, %v", all, err)
	}
	name := filepath.Join(root, modelsFile)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", name); err != nil {
		t.Fatal(err)
	}
	if _, err := readModels(root); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link: %v", err)
	}
	os.Remove(name)
	if err := os.WriteFile(name, []byte(modelsHead+"\n"+modelLine), 0o644); err != nil {
		t.Fatal(err)
	}
	if all, err := readModels(root); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if err := os.WriteFile(name, []byte(modelsHead+"\n"+modelLine+strings.Repeat("x", maxModelsFile)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readModels(root); err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Errorf("a long file: %v", err)
	}
}

func FuzzParseModels(f *testing.F) {
	f.Add(modelsHead + "\n" + modelLine)
	f.Fuzz(func(t *testing.T, s string) {
		all, err := parseModels(s)
		if err != nil {
			return
		}
		for _, m := range all {
			if !filepath.IsLocal(m.Mount) || m.Volume.RootHash == "" || m.Volume.DataBlocks == 0 || m.Parts.Data == m.Parts.Hash || len(m.Parts.Data) != 36 || len(m.Parts.Hash) != 36 {
				t.Errorf("%q gives %+v", s, m)
			}
		}
	})
}
