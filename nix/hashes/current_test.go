package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestVendorHashIsCurrent holds nix/hashes.json against go.mod. The other hashes are held by nix itself, in
// the test that builds an image with it.
func TestVendorHashIsCurrent(t *testing.T) {
	data, err := os.ReadFile("../hashes.json")
	if err != nil {
		t.Fatal(err)
	}
	var h hashes
	if err := json.Unmarshal(data, &h); err != nil {
		t.Fatal(err)
	}
	vendor := filepath.Join(t.TempDir(), "vendor")
	if err := goCommand("../..", nil, "mod", "vendor", "-o", vendor); err != nil {
		t.Fatal(err)
	}
	got, err := hashPath(vendor)
	if err != nil {
		t.Fatal(err)
	}
	if h.Vendor != got {
		t.Errorf("nix/hashes.json: vendor %s, go.mod gives %s: run scripts/nix-hashes", h.Vendor, got)
	}
}
