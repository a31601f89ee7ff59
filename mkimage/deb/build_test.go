package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// arFile writes an ar archive of name, data pairs.
func arFile(parts ...any) []byte {
	b := []byte(arMagic)
	for i := 0; i < len(parts); i += 2 {
		data := parts[i+1].([]byte)
		b = fmt.Appendf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", parts[i], 0, 0, 0, "100644", len(data))
		b = append(b, data...)
		if len(data)%2 == 1 {
			b = append(b, '\n')
		}
	}
	return b
}

// tarFile writes a tar archive; contents by name for regular files.
func tarFile(t testing.TB, contents map[string]string, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Size = int64(len(contents[h.Name])) // 0 for the types that have none
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(contents[h.Name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func xzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// control is a control.tar with the stanza and the given scripts.
func control(t testing.TB, scripts ...string) []byte {
	contents := map[string]string{"./control": "Package: x\nVersion: 1-1\nArchitecture: amd64\nDescription: a\n b\n"}
	headers := []tar.Header{{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "./control", Typeflag: tar.TypeReg}}
	for _, s := range scripts {
		contents["./"+s] = "#!/bin/sh\n"
		headers = append(headers, tar.Header{Name: "./" + s, Typeflag: tar.TypeReg, Mode: 0o755})
	}
	return tarFile(t, contents, headers...)
}

// debFile is a package with that data.tar.
func debFile(t testing.TB, data []byte, scripts ...string) []byte {
	return arFile("debian-binary", []byte("2.0\n"), "control.tar.gz", gz(control(t, scripts...)), "data.tar", data)
}

// save writes a package to disk and returns its path and hash.
func save(t testing.TB, b []byte) (string, [32]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.deb")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, sha256.Sum256(b)
}
