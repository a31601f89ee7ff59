package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/ulikunitz/xz"
)

// mirrorCmd is `mirror LIST`: an archive "acme" with the suite "stable" and what LIST names, served at
// $MIRROR until the script ends; acme.asc holds its key. LIST begins with "suite HOURS [HOURS]": how long ago
// it was signed and when it expires, counted from now. Each further line is a package: name,
// version, what is wrong with it ("!KIND") or a field of its stanza. A second call replaces the suite and
// keeps key, server and packages.
func mirrorCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mirror LIST")
	}
	m, ok := ts.Value(mirrorKey{}).(*testMirror)
	if !ok {
		ts.Fatalf("no mirror in this script's values")
	}
	if m.key == nil {
		m.start(ts)
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	var index strings.Builder
	for _, line := range lines[1:] {
		index.WriteString(m.add(ts, line))
	}
	m.sign(ts, strings.Fields(lines[0])[1:], index.String())
}

type mirrorKey struct{}

// A testMirror is the mirror of one script.
type testMirror struct {
	key *openpgp.Entity
	dir string
}

func (m *testMirror) start(ts *testscript.TestScript) {
	var err error
	m.dir = ts.MkAbs("acme")
	m.key, err = openpgp.NewEntity("acme", "", "test@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Now().Add(-1000 * time.Hour) }})
	ts.Check(err)
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	ts.Check(err)
	ts.Check(errors.Join(m.key.Serialize(w), w.Close(), os.WriteFile(ts.MkAbs("acme.asc"), b.Bytes(), 0o644)))
	srv := httptest.NewServer(http.FileServer(http.Dir(m.dir)))
	ts.Defer(srv.Close)
	ts.Setenv("MIRROR", srv.URL)
}

func (m *testMirror) put(ts *testscript.TestScript, name string, data []byte) {
	name = filepath.Join(m.dir, name)
	ts.Check(errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644)))
}

// add writes one package and returns its stanza.
func (m *testMirror) add(ts *testscript.TestScript, line string) string {
	name, rest, _ := strings.Cut(line, " ")
	version, field, _ := strings.Cut(rest, " ")
	kind := ""
	if strings.HasPrefix(field, "!") {
		kind, field = field[1:], ""
	}
	data := debFile(ts, name, version, kind)
	file := "pool/" + name + "_" + version + ".deb"
	m.put(ts, file, data)
	if field != "" {
		field += "\n"
	}
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nFilename: %s\nSize: %d\nSHA256: %x\n%s\n", name, version, file, len(data), sha256.Sum256(data), field)
}

// sign writes the suite's package list and InRelease.
func (m *testMirror) sign(ts *testscript.TestScript, hours []string, index string) {
	when := func(s string) time.Time {
		n, err := strconv.Atoi(s)
		ts.Check(err)
		return time.Now().Add(time.Duration(n) * time.Hour).UTC()
	}
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	ts.Check(err)
	_, err = w.Write([]byte(index))
	ts.Check(errors.Join(err, w.Close()))
	const list = "main/binary-amd64/Packages"
	text := fmt.Sprintf("Suite: stable\nCodename: stable\nDate: %s\n", when(hours[0]).Format(time.RFC1123))
	if len(hours) > 1 {
		text += "Valid-Until: " + when(hours[1]).Format(time.RFC1123) + "\n"
	}
	text += fmt.Sprintf("SHA256:\n %x %d %s\n %x %d %s.xz\n", sha256.Sum256([]byte(index)), len(index), list, sha256.Sum256(packed.Bytes()), packed.Len(), list)
	var b bytes.Buffer
	c, err := clearsign.Encode(&b, m.key.PrivateKey, &packet.Config{Time: func() time.Time { return when(hours[0]) }})
	ts.Check(err)
	_, err = c.Write([]byte(text))
	ts.Check(errors.Join(err, c.Close()))
	m.put(ts, "dists/stable/InRelease", b.Bytes())
	m.put(ts, "dists/stable/"+list+".xz", packed.Bytes())
}

// debFile builds a package with one file, or with what kind says.
func debFile(ts *testscript.TestScript, name, version, kind string) []byte {
	files := []tar.Header{{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755}, {Name: "./usr/" + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(version))}}
	member, text := "data.tar.gz", version
	switch kind {
	case "traversal":
		files[1].Name = "./usr/../../etc/passwd"
	case "hardlink":
		files = append(files, tar.Header{Name: "./usr/b", Typeflag: tar.TypeLink, Linkname: "../../etc/shadow"})
	case "duplicate":
		files = append(files, files[1])
	case "device":
		files = append(files, tar.Header{Name: "./dev/sda", Typeflag: tar.TypeBlock, Devmajor: 8})
	case "compression":
		member = "data.tar.lz"
	case "kernel":
		files, text = nil, tinyKernel()
		for _, f := range []string{"./boot/", "./boot/vmlinuz-1", "./usr/", "./usr/lib/", "./usr/lib/modules/", "./usr/lib/modules/1/", "./usr/lib/modules/1/modules.builtin"} {
			h := tar.Header{Name: f, Typeflag: tar.TypeDir, Mode: 0o755}
			if !strings.HasSuffix(f, "/") {
				h = tar.Header{Name: f, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}
			}
			files = append(files, h)
		}
	}
	control := "Package: " + name + "\nVersion: " + version + "\nArchitecture: amd64\n"
	scripts := []tar.Header{{Name: "./control", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(control))}}
	if kind == "script" {
		scripts = append(scripts, tar.Header{Name: "./postinst", Typeflag: tar.TypeReg, Mode: 0o755})
	}
	b := bytes.NewBufferString("!<arch>\n")
	for _, f := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", tarGz(ts, control, scripts)}, {member, tarGz(ts, text, files)}} {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", f.name, 0, 0, 0, "100644", len(f.data))
		b.Write(f.data)
		if len(f.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// tarGz packs entries; every regular file that has a size holds text.
func tarGz(ts *testscript.TestScript, text string, entries []tar.Header) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := range entries {
		ts.Check(w.WriteHeader(&entries[i]))
		if entries[i].Size > 0 {
			_, err := w.Write([]byte(text))
			ts.Check(err)
		}
	}
	ts.Check(errors.Join(w.Close(), z.Close()))
	return b.Bytes()
}
