package lock

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// An updateRig is a mirror whose suite can change, and a lock of what it was at first.
type updateRig struct {
	k     *archiveKey
	files map[string][]byte
	m     *mirror
	x     *Indexer
	old   *Lock
}

var updateSpec = strings.NewReplacer("{suites: [trixie, trixie-security], packages: [app]}", "{suites: [trixie], packages: [app, other]}",
	"suites: [trixie, trixie-security]", "suites: [trixie]").Replace(indexSpec)

// kernelStanzas are what the spec wants besides the root.
func kernelStanzas() []string {
	return []string{stanza("ovmf", "1", ""), stanza("linux-image-cloud-amd64", "6.1-1", "")}
}

func newUpdateRig(t *testing.T) *updateRig {
	t.Helper()
	r := &updateRig{k: newArchiveKey(t), files: map[string][]byte{}}
	addSuite(t, r.k, r.files, "/debian", "trixie", "", append(kernelStanzas(), stanza("app", "1", "Depends: lib (>= 1), data (= 1)\n"), stanza("data", "1", ""),
		stanza("lib", "1", ""), stanza("other", "1", "Depends: lib\n"))...)
	r.m = newMirror(t, r.files)
	r.x = newIndexer(t, r.k, r.m.URL+"/debian")
	r.old = &Lock{Schema: Schema, Arch: "amd64"}
	if err := r.x.Debian(context.Background(), parseSpec(t, updateSpec), r.old); err != nil {
		t.Fatal(err)
	}
	return r
}

// next replaces the suite by a newer one, dated so many hours later.
func (r *updateRig) next(t *testing.T, hours int, packages ...string) {
	t.Helper()
	old := indexDate
	indexDate = indexDate.Add(time.Duration(hours) * time.Hour)
	defer func() { indexDate = old }()
	addSuite(t, r.k, r.files, "/debian", "trixie", "", append(kernelStanzas(), packages...)...)
	r.x.Now = indexDate.Add(time.Hour)
}

func (r *updateRig) update(t *testing.T, names ...string) (*Lock, error) {
	t.Helper()
	l := &Lock{Schema: Schema, Arch: "amd64"}
	if err := r.x.Update(context.Background(), parseSpec(t, updateSpec), r.old, names, l); err != nil {
		return nil, err
	}
	if _, err := Parse(mustMarshal(t, l), "l"); err != nil {
		t.Error(err)
	}
	if unchecked, err := Chain(context.Background(), l, r.x.Fetcher.Store, r.k.ring); err != nil || len(unchecked) > 0 {
		t.Errorf("chain: %v, unchecked %v", err, unchecked)
	}
	return l, nil
}

func TestUpdate(t *testing.T) {
	r := newUpdateRig(t)
	r.next(t, 1, stanza("app", "2", "Depends: lib (>= 1), data (= 2), extra\n"), stanza("data", "2", ""), stanza("extra", "1", ""), stanza("lib", "2", ""), stanza("other", "2", "Depends: lib (>= 2)\n"))
	dated := "trixie@20260905T100000Z"
	for name, want := range map[string]string{
		"app":   "app=2/trixie data=2/trixie extra=1/trixie lib=1/" + dated + " other=1/" + dated, // data had to go along
		"data":  "app=2/trixie data=2/trixie extra=1/trixie lib=1/" + dated + " other=1/" + dated, // app wants it in its own version
		"other": "app=1/" + dated + " data=1/" + dated + " lib=2/trixie other=2/trixie",           // lib had to go along
		"lib":   "app=1/" + dated + " data=1/" + dated + " lib=2/trixie other=1/" + dated,         // alone
		"stub":  "",                                                                               // not a package of the lock
	} {
		l, err := r.update(t, name)
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "package stub is neither in the lock nor named by the spec") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || root(l) != want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, root(l), want)
			continue
		}
		if len(l.Suites) != 2 || l.Suites[0].Name != "trixie" || l.Suites[1].Dist != "trixie" || l.Suites[1].InRelease != r.old.Suites[0].InRelease {
			t.Errorf("%s: suites %+v", name, l.Suites)
		}
		for _, c := range Diff(r.old, l) {
			if c.Kind == "package" && c.How == "changed" && c.Name == "ovmf amd64" {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
	if all, err := r.update(t, "app", "other", "lib"); err != nil || root(all) != "app=2/trixie data=2/trixie extra=1/trixie lib=2/trixie other=2/trixie" || len(all.Suites) != 1 {
		t.Errorf("all three: %v", err)
	}
}

// TestUpdateOfUpdate: what is left of an older index stays with that, and an index nothing is left of goes.
func TestUpdateOfUpdate(t *testing.T) {
	r := newUpdateRig(t)
	r.next(t, 1, stanza("app", "2", "Depends: lib, data\n"), stanza("data", "1", ""), stanza("lib", "2", ""), stanza("other", "2", ""))
	var err error
	if r.old, err = r.update(t, "app"); err != nil {
		t.Fatal(err)
	}
	if want := "app=2/trixie data=1/trixie lib=1/trixie@20260905T100000Z other=1/trixie@20260905T100000Z"; root(r.old) != want {
		t.Errorf("first: %s, want %s", root(r.old), want)
	}
	r.next(t, 2, stanza("app", "3", "Depends: lib, data\n"), stanza("data", "3", ""), stanza("lib", "3", ""), stanza("other", "3", ""))
	second, err := r.update(t, "lib")
	if want := "app=2/trixie@20260905T110000Z data=1/trixie@20260905T110000Z lib=3/trixie other=1/trixie@20260905T100000Z"; err != nil || root(second) != want {
		t.Errorf("second: %v, %s, want %s", err, root(second), want)
	}
	again, err := r.update(t, "lib")
	if err != nil || !bytes.Equal(mustMarshal(t, again), mustMarshal(t, second)) {
		t.Errorf("the same index gives another lock (%v)", err)
	}
}

func TestUpdateRefusals(t *testing.T) {
	r := newUpdateRig(t)
	r.next(t, 1, stanza("app", "2", "Depends: lib (>= 9)\n"), stanza("lib", "2", ""), stanza("other", "1", "Depends: lib\n"))
	if _, err := r.update(t, "app"); err == nil || !strings.Contains(err.Error(), "root.0: package lib (>= 9), wanted by package app: the candidate is 2") {
		t.Errorf("unmet: %v", err)
	}
	if err := os.Remove(r.x.Fetcher.Store.Path(r.old.Suites[0].Indexes[0].SHA256)); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("suite trixie: the index of %s, which says what package app 1 depends on, is in none of the places", r.old.Suites[0].Date)
	if _, err := r.update(t, "lib"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("old index gone: %v", err)
	}
}

// TestUpdateUnchanged: today's index is the lock's.
func TestUpdateUnchanged(t *testing.T) {
	r := newUpdateRig(t)
	if l, err := r.update(t, "app"); err != nil || len(Diff(r.old, l)) != 0 || !bytes.Equal(mustMarshal(t, l), mustMarshal(t, r.old)) {
		t.Errorf("%v, %+v", err, l)
	}
}
