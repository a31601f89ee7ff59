// Command app writes the container image that this example takes files from: an OCI layout with an index for
// two platforms and two layers each, of which the second removes, replaces and links files of the first.
//
//	go run ./examples/oci/app examples/oci/app.oci
//
// What it writes is committed, so that the example builds as it stands; a test holds the two together.
package main

import (
	"archive/tar"
	"fmt"
	"os"
	"time"

	"tally/mkimage/oci/ocitest"
)

// mtime is 2025-12-01, before the epoch of the image.
var mtime = time.Unix(1764547200, 0)

func layers(arch string) []ocitest.Layer {
	shadow := ocitest.File("etc/app/key-ids", "1\n2\n")
	shadow.Header.Mode, shadow.Header.Gid = 0o640, 42
	tagged := ocitest.File("srv/app/data.txt", "data of the application\n")
	tagged.Header.PAXRecords = map[string]string{"SCHILY.xattr.user.origin": "examples/oci"}
	first := []ocitest.Item{
		ocitest.Dir("etc/"), ocitest.Dir("etc/app/"), shadow, ocitest.Dir("srv/"), ocitest.Dir("srv/app/"), tagged,
		ocitest.File("srv/app/arch.txt", arch+"\n"), ocitest.File("srv/app/old.txt", "removed by the second layer\n"),
		ocitest.File("srv/app/version.txt", "1\n"), ocitest.Dir("srv/app/cache/"), ocitest.File("srv/app/cache/stale", "hidden by the second layer\n"),
	}
	second := []ocitest.Item{
		ocitest.Dir("srv/"), ocitest.Dir("srv/app/"), ocitest.File("srv/app/.wh.old.txt", ""), ocitest.File("srv/app/version.txt", "2\n"),
		ocitest.Dir("srv/app/cache/"), ocitest.File("srv/app/cache/.wh..wh..opq", ""), ocitest.File("srv/app/cache/fresh", "of the second layer\n"),
		ocitest.Link(tar.TypeLink, "srv/app/data-too.txt", "srv/app/data.txt"), ocitest.Link(tar.TypeSymlink, "srv/app/current", "version.txt"),
	}
	var all []ocitest.Layer
	for i, items := range [][]ocitest.Item{first, second} {
		for j := range items {
			items[j].Header.ModTime = mtime
		}
		all = append(all, ocitest.Packed(ocitest.Tar(items...), []string{"gzip", ""}[i]))
	}
	return all
}

// write fills dir and returns the digest of the index.
func write(dir string) string {
	l := ocitest.New(dir)
	d := l.Index(l.Image("amd64", layers("amd64")...), l.Image("arm64", layers("arm64")...))
	l.Tag("latest", d)
	return d.Digest
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: app DIR")
		os.Exit(2)
	}
	fmt.Println(write(os.Args[1]))
}
