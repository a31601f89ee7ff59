package main

import (
	"archive/tar"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	server "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"

	"tally/mkimage/oci/ocitest"
)

// hostileItems are layers that no build takes; "good" is one that it does.
var hostileItems = map[string][]ocitest.Item{
	"good":      {ocitest.Dir("etc"), ocitest.File("etc/a", "a"), ocitest.Link(tar.TypeLink, "etc/b", "etc/a")},
	"traversal": {ocitest.File("../../etc/passwd", "x")},
	"through":   {ocitest.Link(tar.TypeSymlink, "etc", "/etc"), ocitest.File("etc/passwd", "x")},
	"hardlink":  {ocitest.Link(tar.TypeLink, "a", "../../etc/shadow")},
	"device":    {ocitest.Node(tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8})},
	"duplicate": {ocitest.File("a", "1"), ocitest.File("a", "2")},
}

// mkociCmd is `mkoci KIND DIR`: a layout with an index of one image; $DIGEST is the index's digest.
func mkociCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || hostileItems[args[0]] == nil {
		ts.Fatalf("usage: mkoci KIND DIR")
	}
	l := ocitest.New(ts.MkAbs(args[1]))
	d := l.Index(l.Image("amd64", ocitest.Packed(ocitest.Tar(hostileItems[args[0]]...), "gzip")))
	l.Tag("latest", d)
	ts.Setenv("DIGEST", d.Digest)
}

// registryCmd is `registry DIR [USER:PASSWORD]`: a container registry on this machine that has the image of a
// layout as team/app, until the script ends; $REGISTRY is its address.
func registryCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: registry DIR [USER:PASSWORD]")
	}
	inner, password := server.New(server.Logger(log.New(io.Discard, "", 0))), ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); password != "" && u+":"+p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	ts.Defer(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	path, err := layout.FromPath(ts.MkAbs(args[0]))
	ts.Check(err)
	top, err := path.ImageIndex()
	ts.Check(err)
	h, err := v1.NewHash(ts.Getenv("DIGEST"))
	ts.Check(err)
	index, err := top.ImageIndex(h)
	ts.Check(err)
	ref, err := name.NewDigest(host + "/team/app@" + h.String())
	ts.Check(err)
	ts.Check(remote.WriteIndex(ref, index))
	ts.Setenv("REGISTRY", host)
	if len(args) == 2 {
		password = args[1]
		config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(password)))
		ts.Check(os.MkdirAll(ts.MkAbs("docker"), 0o755))
		ts.Check(os.WriteFile(filepath.Join(ts.MkAbs("docker"), "config.json"), []byte(config), 0o600))
	}
}
