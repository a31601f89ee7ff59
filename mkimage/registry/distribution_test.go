package registry_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"tally/internal/testtool"
)

// TestDistribution runs Debian's docker-registry (the reference implementation), with and without a
// password file, and fetches an image from it.
func TestDistribution(t *testing.T) {
	// bcrypt of "pass word", cost 4: what `htpasswd -B` writes.
	const htpasswd = "user:$2a$04$viDKQ/eUaGovg.vojE8Lz.GYdWD.CLHLT0VUBEUx1pgfQphBkK99S\n"
	l, d := newImage(t)
	for _, withAuth := range []bool{false, true} {
		var more []string
		if withAuth {
			file := filepath.Join(t.TempDir(), "htpasswd")
			if err := os.WriteFile(file, []byte(htpasswd), 0o600); err != nil {
				t.Fatal(err)
			}
			more = append(more, fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", file))
		}
		host := testtool.Registry(t, more...)
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
