package registry_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	server "github.com/google/go-containerregistry/pkg/registry"

	"tally/mkimage/oci"
	"tally/mkimage/oci/ocitest"
)

// newImage makes an image for two platforms in a layout.
func newImage(t *testing.T) (*ocitest.Layout, oci.Digest) {
	l := ocitest.New(t.TempDir())
	layer := ocitest.Packed(ocitest.Tar(ocitest.File("a", strings.Repeat("content ", 1000))), "gzip")
	return l, l.Index(l.Image("amd64", layer), l.Image("arm64", layer)).ID()
}

// push uploads everything in a layout to a repository, as the Distribution Specification has it.
func push(t *testing.T, l *ocitest.Layout, base string, auth func(*http.Request)) {
	t.Helper()
	do := func(method, url, media string, data []byte) *http.Response {
		req, err := http.NewRequest(method, url, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", media)
		if auth != nil {
			auth(req)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %s", method, url, resp.Status)
		}
		return resp
	}
	dir := filepath.Join(l.Dir, "blobs", "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifests := map[int][]string{} // children first: a registry refuses an index of what it has not
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var doc struct{ MediaType string }
		if json.Unmarshal(data, &doc) == nil && doc.MediaType != "" {
			order := strings.Count(doc.MediaType, "index")
			manifests[order] = append(manifests[order], e.Name())
			continue
		}
		at := do(http.MethodPost, base+"/blobs/uploads/", "application/octet-stream", nil).Header.Get("Location")
		if strings.HasPrefix(at, "/") {
			at = base[:strings.Index(base, "/v2/")] + at
		}
		sep := "?"
		if strings.Contains(at, "?") {
			sep = "&"
		}
		do(http.MethodPut, at+sep+"digest=sha256:"+e.Name(), "application/octet-stream", data)
	}
	for order := range 2 {
		for _, name := range manifests[order] {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			var doc struct{ MediaType string }
			if err := json.Unmarshal(data, &doc); err != nil {
				t.Fatal(err)
			}
			do(http.MethodPut, base+"/manifests/sha256:"+name, doc.MediaType, data)
		}
	}
}

// A guard is a registry that wants credentials, and the token server it names.
type guard struct {
	inner  http.Handler
	basic  string // user:password of the registry itself, or
	token  string // a bearer token, got with
	user   string // user:password or, as an identity token, the token
	expire int    // after so many requests a token is no longer taken, once
	seen   int
	scopes []string
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		g.serveToken(w, r)
		return
	}
	if g.seen++; g.basic != "" {
		if u, p, _ := r.BasicAuth(); u+":"+p != g.basic {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
	} else if expired := g.expire > 0 && g.seen == g.expire; expired || r.Header.Get("Authorization") != "Bearer "+g.token {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"`, r.Host))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	g.inner.ServeHTTP(w, r)
}

func (g *guard) serveToken(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	g.scopes = append(g.scopes, r.Form.Get("scope"))
	u, p, ok := r.BasicAuth()
	if good := g.user == "" && !ok || ok && u+":"+p == g.user || r.Form.Get("refresh_token") != "" && r.Form.Get("refresh_token") == g.user; !good {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, `{"token":%q,"access_token":%q}`, g.token, g.token)
}

// start serves g in front of an in-process registry that holds l.
func start(t *testing.T, l *ocitest.Layout, g *guard) string {
	t.Helper()
	g.inner = server.New(server.Logger(log.New(io.Discard, "", 0)))
	open := httptest.NewServer(g.inner)
	push(t, l, open.URL+"/v2/team/app", nil)
	open.Close()
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func basicAuth(host, userPassword string) string {
	return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(userPassword)))
}
