package lock

import (
	"context"
	"fmt"
	"slices"
	"time"

	"tally/mkimage/deb"
)

// Chain checks again, without the network, what `tally lock` saw: that the InRelease file of each suite
// carries a signature of one of keys, or of the keyring that the lock pins for it, that it names the package lists, and that these name every package
// of l with its hash, size and path. It returns the names of the suites whose index is not in the
// store: for their packages only the hash in the lock speaks.
func Chain(ctx context.Context, l *Lock, store *Store, keys deb.Keyring) (unchecked []string, err error) {
	for i := range l.Suites {
		s := &l.Suites[i]
		have := store.Has(s.InRelease.SHA256, s.InRelease.Size) && (s.Keyring == nil || store.Has(s.Keyring.SHA256, s.Keyring.Size))
		for _, idx := range s.Indexes {
			have = have && store.Has(idx.SHA256, idx.Size)
		}
		if !have {
			unchecked = append(unchecked, s.Name)
			continue
		}
		if err := l.chain(ctx, s, store, keys); err != nil {
			return nil, fmt.Errorf("suite %s: %w", s.Name, err)
		}
	}
	return unchecked, nil
}

func (l *Lock) chain(ctx context.Context, s *Suite, store *Store, keys deb.Keyring) error {
	data, err := store.Read(s.InRelease)
	if err != nil {
		return err
	}
	if s.Keyring != nil {
		if keys, err = readKeyring(store, *s.Keyring); err != nil {
			return err
		}
	}
	date, err := time.Parse(time.RFC3339, s.Date)
	if err != nil {
		return fmt.Errorf("date %.40q: want RFC 3339", s.Date)
	}
	// Judged shortly after it was made: keys that have expired since were good then. Some archive keys
	// sign hours after the date.
	rel, err := deb.VerifyInRelease(data, keys, date.Add(48*time.Hour))
	if err != nil {
		return err
	}
	if !rel.Date.Equal(date) || !overlap(rel.Signers, s.Signers) || s.dist() != rel.Suite && s.dist() != rel.Codename || formatEnd(rel) != s.ValidUntil {
		return fmt.Errorf("InRelease: of %s, dated %s and signed by %v, is not what the lock describes", rel.Codename, rel.Date.Format(time.RFC3339), rel.Signers)
	}
	wanted := map[listed]bool{}
	for _, p := range l.Packages {
		if p.Suite == s.Name {
			wanted[listed{p.key(), p.Path, p.Object}] = true
		}
	}
	for _, idx := range s.Indexes {
		if err := chainIndex(ctx, idx, rel, store, l.Arch, wanted); err != nil {
			return err
		}
	}
	for _, p := range l.Packages { // in the lock's order, so that the error is the same each time
		if p.Suite == s.Name && wanted[listed{p.key(), p.Path, p.Object}] {
			return fmt.Errorf("package %s %s is not in its package lists as the lock has it", p.Name, p.Version)
		}
	}
	return nil
}

func readKeyring(store *Store, o Object) (deb.Keyring, error) {
	data, err := store.Read(o)
	if err != nil {
		return deb.Keyring{}, err
	}
	return deb.ReadKeyring(data)
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// A listed is all that a package list says of a package's file. Two packages of a lock may share part of it: each must
// be listed.
type listed struct {
	key, path string
	Object
}

// chainIndex removes from wanted what one package list vouches for.
func chainIndex(ctx context.Context, idx Index, rel *deb.Release, store *Store, arch string, wanted map[listed]bool) error {
	name := idx.Component + "/binary-" + arch + "/Packages"
	if f := rel.Files[name+".xz"]; f.SHA256 != idx.SHA256 || f.Size != idx.Size {
		return fmt.Errorf("InRelease: does not name the %s package list of the lock", idx.Component)
	}
	ps, err := readIndex(ctx, store, idx.Object)
	if err != nil {
		return fmt.Errorf("%s.xz: %w", name, err)
	}
	for _, p := range ps {
		delete(wanted, listed{key(p.Name, string(p.Version), p.Arch), p.Filename, Object{p.SHA256, p.Size}})
	}
	return nil
}
