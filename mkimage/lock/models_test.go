package lock

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tally/mkimage/spec"
)

// TestModelFiles: a model's file comes from its address, is taken up where a connection broke, kept by
// hash, and is nothing that another answer can replace.
func TestModelFiles(t *testing.T) {
	ctx := context.Background()
	data, _ := payload(200000)
	o := Object{sha256.Sum256(data), int64(len(data))}
	m := newMirror(t, map[string][]byte{"/m.gguf": data})
	m.faults = append(m.faults, dropAfter(70000), status(503))
	r := newRig(t)
	s := &spec.Spec{Root: []spec.Source{{}, {Model: &spec.Model{Name: "m", Target: "m", Files: []spec.ModelFile{
		{Name: "weights", URL: m.URL + "/m.gguf", SHA256: o.SHA256.String(), Size: o.Size}, {Name: "local", Path: "x"}}}}}}
	l := &Lock{}
	if err := l.PinModels(s); err != nil {
		t.Fatal(err)
	}
	if len(l.Models) != 1 || l.Models[0] != (ModelFile{"root.1", "weights", m.URL + "/m.gguf", o}) || l.ModelFile("root.1", "weights") == nil || l.ModelFile("root.0", "weights") != nil {
		t.Fatalf("pinned %+v", l.Models)
	}
	if err := r.All(ctx, l); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(m.log, "; "); !strings.Contains(got, "/m.gguf bytes=70000- if ") {
		t.Errorf("requests %q: the rest was not asked for", got)
	}
	if _, err := r.Store.Read(o); err != nil {
		t.Error(err)
	}
	n := len(m.log)
	if err := r.All(ctx, l); err != nil || len(m.log) != n {
		t.Errorf("a second time: %v, %d more requests", err, len(m.log)-n)
	}

	other := newRig(t)
	m.faults = append(m.faults, sends(strings.Repeat("x", len(data))))
	var gone *GoneError
	if err := other.All(ctx, l); !errors.As(err, &gone) || !strings.Contains(err.Error(), "model file weights") || !strings.Contains(err.Error(), m.URL) {
		t.Errorf("other bytes: %v", err)
	}
	if other.Store.Has(o.SHA256, o.Size) {
		t.Error("other bytes are in the store")
	}
	other.Places.Offline = true
	if err := other.All(ctx, l); !errors.As(err, &gone) || !strings.Contains(err.Error(), "offline") {
		t.Errorf("offline: %v", err)
	}

	file := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	l.Models[0].URL = "file://" + file
	if err := newRig(t).All(ctx, l); err != nil {
		t.Errorf("from a file: %v", err)
	}
}
