package deb

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"tally/internal/testtool"
)

// A signer makes InRelease files with a key of its own.
type signer struct {
	entity *openpgp.Entity
	ring   Keyring
	now    time.Time
}

func newSigner(t testing.TB, now time.Time) *signer {
	t.Helper()
	cfg := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now }}
	e, err := openpgp.NewEntity("Test Archive", "", "archive@example", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ring, err := ReadKeyring(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return &signer{e, ring, now}
}

func (s *signer) sign(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, s.entity.PrivateKey, &packet.Config{Time: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), '\n')
}

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const releaseText = "Suite: stable\nCodename: trixie\nDate: Sat, 21 Nov 2026 09:15:44 UTC\nValid-Until: Sat, 28 Nov 2026 09:15:44 UTC\nSHA256:\n 0000000000000000000000000000000000000000000000000000000000000001 12 main/binary-amd64/Packages\n"

func TestVerifyInRelease(t *testing.T) {
	s := newSigner(t, now.Add(-time.Hour))
	r, err := VerifyInRelease(s.sign(t, releaseText), s.ring, now)
	if err != nil {
		t.Fatal(err)
	}
	if r.Codename != "trixie" || r.Suite != "stable" || r.Files["main/binary-amd64/Packages"].Size != 12 || len(r.Signers) != 1 || r.ValidUntil.Day() != 28 {
		t.Errorf("read %+v", r)
	}
}

// TestTwoSigners: both are named, in an order that neither the file nor the keyring decides. A key beside them that is
// not known hides none.
func TestTwoSigners(t *testing.T) {
	a, b, unknown := newSigner(t, now.Add(-time.Hour)), newSigner(t, now.Add(-time.Hour)), newSigner(t, now.Add(-time.Hour))
	for _, order := range [][]*signer{{a, b}, {b, a}} {
		var keys []*packet.PrivateKey
		var ring Keyring
		for _, s := range append([]*signer{unknown}, order...) {
			keys = append(keys, s.entity.PrivateKey)
			if s != unknown {
				ring.list = append(ring.list, s.ring.list...)
			}
		}
		var text bytes.Buffer
		w, err := clearsign.EncodeMulti(&text, keys, &packet.Config{Time: func() time.Time { return a.now }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(releaseText)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := VerifyInRelease(text.Bytes(), ring, now)
		if err != nil || len(r.Signers) != 2 || !slices.IsSorted(r.Signers) || !slices.Equal(r.Signers, ring.Fingerprints()) {
			t.Errorf("%+v, %v; want the keys %v", r, err, ring.Fingerprints())
		}
	}
	if _, err := ReadKeyring(make([]byte, MaxKeyring+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("large keyring: %v", err)
	}
}

func TestVerifyInReleaseRefusals(t *testing.T) {
	s, other := newSigner(t, now.Add(-time.Hour)), newSigner(t, now.Add(-time.Hour))
	good := s.sign(t, releaseText)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":         {nil, "no clear-signed message"},
		"unsigned":      {[]byte(releaseText), "no clear-signed message"},
		"other key":     {other.sign(t, releaseText), "no good signature"},
		"changed":       {bytes.Replace(good, []byte("00001 12"), []byte("00002 12"), 1), "no good signature"},
		"text before":   {append([]byte("Suite: evil\n"), good...), "before the signed message"},
		"text behind":   {append(bytes.Clone(good), "Suite: evil\n"...), "after the signature"},
		"no date":       {s.sign(t, strings.Replace(releaseText, "Date: ", "Dote: ", 1)), "date"},
		"long hash":     {s.sign(t, releaseText+" "+strings.Repeat("0", 66)+" 1 x\n"), "64 hex digits"},
		"bad line":      {s.sign(t, releaseText+" zz 1 x\n"), "64 hex digits"},
		"no files":      {s.sign(t, releaseText[:strings.Index(releaseText, "SHA256")]), "want hash, size and path"},
		"two fields":    {s.sign(t, releaseText+" "+strings.Repeat("0", 64)+" 1\n"), "want hash, size and path"},
		"four fields":   {s.sign(t, releaseText+" "+strings.Repeat("0", 64)+" 1 x y\n"), "want hash, size and path"},
		"size":          {s.sign(t, releaseText+" "+strings.Repeat("0", 64)+" 0x1 x\n"), "want a number"},
		"negative size": {s.sign(t, releaseText+" "+strings.Repeat("0", 64)+" -1 x\n"), "want a number"},
		"path twice":    {s.sign(t, releaseText+" 0000000000000000000000000000000000000000000000000000000000000002 12 main/binary-amd64/Packages\n"), "twice"},
		"bad stanza":    {s.sign(t, releaseText+"\nno field\n"), "more than one stanza"},
		"year one":      {s.sign(t, strings.Replace(releaseText, "28 Nov 2026", "01 Jan 0001", 1)), "valid-until"},
		"two stanzas":   {s.sign(t, releaseText+"\nSuite: evil\n"), "more than one stanza"},
		"too large":     {make([]byte, MaxInRelease+1), "at most"},
		"cut signature": {good[:len(good)-80], ""},
	} {
		if r, err := VerifyInRelease(c.data, s.ring, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, r, err, c.want)
		}
	}
	if _, err := VerifyInRelease(good, Keyring{}, now); err == nil {
		t.Error("no keys: no error")
	}
}

// TestSignatures: a signature of a stranger beside a good one changes nothing; no file makes the reader try
// more than maxSignatures.
func TestSignatures(t *testing.T) {
	s, stranger := newSigner(t, now.Add(-time.Hour)), newSigner(t, now.Add(-time.Hour))
	detached := func(s *signer) []byte {
		var b bytes.Buffer
		if err := openpgp.DetachSign(&b, s.entity, strings.NewReader("text"), &packet.Config{Time: func() time.Time { return s.now }}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	strange, good := detached(stranger), detached(s)
	for n, want := range map[int]int{0: 1, 1: 1, maxSignatures - 1: 1, maxSignatures: 0} {
		signatures := append(bytes.Repeat(strange, n), good...)
		if got := s.ring.verify([]byte("text"), append(signatures, strange...), now); len(got) != want {
			t.Errorf("after %d strangers: signers %q, want %d", n, got, want)
		}
	}
	if got := s.ring.verify([]byte("other"), good, now); len(got) != 0 {
		t.Errorf("other text: signers %q", got)
	}
}

// TestPinnedKeys holds the pinned keys against those of Debian's own package on this machine.
func TestPinnedKeys(t *testing.T) {
	keys, err := DebianKeyring()
	if err != nil {
		t.Fatal(err)
	}
	var machine []byte
	for _, ending := range []string{"gpg", "pgp"} {
		if b, err := os.ReadFile("/usr/share/keyrings/debian-archive-keyring." + ending); err == nil {
			machine = b
		}
	}
	if machine == nil {
		testtool.Missing(t, "package debian-archive-keyring is not installed")
	}
	list, err := openpgp.ReadKeyRing(bytes.NewReader(machine))
	if err != nil {
		t.Fatal(err)
	}
	theirs := Keyring{list}.Fingerprints()
	if got := keys.Fingerprints(); len(got) != 6 { // stable, automatic and security of two releases
		t.Errorf("%d keys: %q", len(got), got)
	}
	for _, f := range keys.Fingerprints() {
		if !slices.Contains(theirs, f) {
			t.Errorf("key %s is not one of Debian's: %q", f, theirs)
		}
	}
}

// TestDebianInRelease verifies the indexes that apt has fetched on this machine with the pinned keys.
func TestDebianInRelease(t *testing.T) {
	keys, err := DebianKeyring()
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("/var/lib/apt/lists/*_InRelease")
	checked := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(data, []byte("\nOrigin: Debian\n")) {
			continue
		}
		checked++
		r, err := VerifyInRelease(data, keys, time.Now())
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
			continue
		}
		if r.Codename == "" || len(r.Signers) == 0 || len(r.Files) == 0 {
			t.Errorf("%s: read %s, signed by %q, %d files", filepath.Base(file), r.Codename, r.Signers, len(r.Files))
		}
		bad := bytes.Replace(data, []byte("\nOrigin: Debian\n"), []byte("\nOrigin: Debiam\n"), 1)
		if _, err := VerifyInRelease(bad, keys, time.Now()); err == nil {
			t.Errorf("%s: one changed letter is accepted", filepath.Base(file))
		}
	}
	if checked == 0 {
		testtool.Missing(t, "apt has fetched no index of Debian here (apt-get update)")
	}
}

func FuzzVerifyInRelease(f *testing.F) {
	s := newSigner(f, now.Add(-time.Hour))
	f.Add(s.sign(f, releaseText))
	other := newSigner(f, now.Add(-time.Hour))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := VerifyInRelease(b, other.ring, now); err == nil {
			t.Errorf("accepted without a key: %+v", r)
		}
	})
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte(releaseText))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRelease(b); err == nil && r.Date.IsZero() {
			t.Errorf("no date: %+v", r)
		}
	})
}
