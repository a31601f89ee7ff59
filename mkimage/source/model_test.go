package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"tally/mkimage/lock"
)

// TestModel: files from the store and from the disk, unchanged, in a tree of their own; both are in an inputs
// file, which fills another store.
func TestModel(t *testing.T) {
	ctx := context.Background()
	weights := []byte(strings.Repeat("weights ", 1000))
	p := newProject()
	p["images/one/LICENSE.m"] = "free"
	p["images/one/image.yaml"] = strings.Replace(projectSpec, "devices:", fmt.Sprintf("  - model: {name: m, target: srv/m, files: [{name: a/weights, url: 'https://models.example/m', sha256: '%x', size: %d}, {name: LICENSE, path: LICENSE.m}]}\ndevices:",
		sha256.Sum256(weights), len(weights)), 1)
	store := lock.NewStore(t.TempDir())
	l := open(t, p.write(t))
	k, raw := pin(t, l, store)
	if len(k.Models) != 1 || k.Models[0].For != "root.4" {
		t.Fatalf("lock: %+v", k.Models)
	}
	if _, err := store.Put(weights); err != nil {
		t.Fatal(err)
	}
	in, err := l.Assemble(ctx, k, raw, store, t.TempDir(), 2)
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Models) != 1 || in.Models[0].Name != "m" || in.Models[0].Mount != "srv/m" || in.Root.Get("srv/m") != nil {
		t.Fatalf("models %+v", in.Models)
	}
	for path, want := range map[string]string{"a/weights": string(weights), "LICENSE": "free"} {
		e := in.Models[0].Tree.Get(path)
		if got, err := contents(ctx, e); err != nil || string(got) != want || e.Mode != 0o644 || e.MTime != in.Epoch {
			t.Errorf("%s: %d bytes, mode %o, time %d, %v", path, len(got), e.Mode, e.MTime, err)
		}
	}
	var b bytes.Buffer
	if _, err := l.Export(ctx, &b, k, raw, ExportOptions{Store: store, Tmp: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	fresh := lock.NewStore(t.TempDir())
	if _, err := Import(ctx, &b, k, fresh); err != nil || !fresh.Has(k.Models[0].SHA256, k.Models[0].Size) {
		t.Errorf("import: %v", err)
	}
	if _, err := l.Export(ctx, &b, k, raw, ExportOptions{Store: lock.NewStore(t.TempDir()), Tmp: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "is not in the store") {
		t.Errorf("export without the inputs: %v", err)
	}
	k.Models[0].URL = "https://elsewhere.example/m"
	if err := l.Check(ctx, k); err == nil || !strings.Contains(err.Error(), "model file root.4 a/weights is not what the lock pinned") {
		t.Errorf("another address: %v", err)
	}
}
