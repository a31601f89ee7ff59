package registry_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tally/internal/testtool"
)

// TestDistribution runs Debian's docker-registry (the reference implementation), with and without a
// password file, and fetches an image from it.
func TestDistribution(t *testing.T) {
	program := testtool.Need(t, "docker-registry")
	// bcrypt of "pass word", cost 4: what `htpasswd -B` writes.
	const htpasswd = "user:$2a$04$viDKQ/eUaGovg.vojE8Lz.GYdWD.CLHLT0VUBEUx1pgfQphBkK99S\n"
	l, d := newImage(t)
	for _, withAuth := range []bool{false, true} {
		dir, host := t.TempDir(), freeAddress(t)
		auth := ""
		if withAuth {
			file := filepath.Join(dir, "htpasswd")
			if err := os.WriteFile(file, []byte(htpasswd), 0o600); err != nil {
				t.Fatal(err)
			}
			auth = fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", file)
		}
		config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n%s", dir, host, auth)
		file := filepath.Join(dir, "config.yml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "serve", file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		await(t, host)
		push(t, l, "http://"+host+"/v2/team/app", func(r *http.Request) {
			if withAuth {
				r.SetBasicAuth("user", "pass word")
			}
		})
		image := host + "/team/app@" + d.String()
		if !withAuth {
			check(t, fetcher(t, ""), l, image)
			continue
		}
		if _, err := lockImage(fetcher(t, ""), image); err == nil {
			t.Error("without the password: no error")
		}
		check(t, fetcher(t, basicAuth(host, "user:pass word")), l, image)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func await(t *testing.T, host string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get("http://" + host + "/v2/"); err == nil {
			resp.Body.Close()
			return
		}
	}
	t.Fatal("docker-registry does not answer")
}
