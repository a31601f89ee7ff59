package deb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// MaxInRelease is the largest InRelease file read, in bytes.
const MaxInRelease = 16 << 20

// A Release is a verified InRelease file: which index files a suite has, and who vouches for it.
type Release struct {
	Suite, Codename string
	Priority        int // that apt gives its packages: 500; 100 or 1 when the file says that they are not for everybody
	Date            time.Time
	ValidUntil      time.Time            // zero when the file names no end
	Signers         []string             // fingerprints (40 hex digits) of the primary keys that signed, sorted
	Files           map[string]IndexFile // by path below the suite
}

// An IndexFile is one file that a Release lists.
type IndexFile struct {
	SHA256 [32]byte
	Size   int64 // bytes
}

// A Keyring is a set of OpenPGP keys that may sign.
type Keyring struct{ list openpgp.EntityList }

// MaxKeyring is the largest keyring read, in bytes.
const MaxKeyring = 1 << 20

// ReadKeyring reads keys, ASCII-armored.
func ReadKeyring(armored []byte) (Keyring, error) {
	if len(armored) > MaxKeyring {
		return Keyring{}, fmt.Errorf("keyring: %d bytes, want at most %d", len(armored), MaxKeyring)
	}
	list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(armored))
	if err != nil {
		return Keyring{}, fmt.Errorf("keyring: %w", err)
	}
	return Keyring{list}, nil
}

// Fingerprints lists the primary keys, sorted.
func (k Keyring) Fingerprints() []string {
	var all []string
	for _, e := range k.list {
		all = append(all, hex.EncodeToString(e.PrimaryKey.Fingerprint))
	}
	sort.Strings(all)
	return all
}

// VerifyInRelease checks the clear signature of data at time now against keys and returns what the file
// says. At least one signature must be good; unknown signers beside it are ignored. Whether the file is
// still valid is the caller's to decide by Date and ValidUntil.
func VerifyInRelease(data []byte, keys Keyring, now time.Time) (*Release, error) {
	if len(data) > MaxInRelease {
		return nil, fmt.Errorf("InRelease: %d bytes, want at most %d", len(data), MaxInRelease)
	}
	block, rest := clearsign.Decode(data)
	if block == nil {
		return nil, errors.New("InRelease: no clear-signed message")
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("InRelease: data after the signature")
	}
	if i := bytes.Index(data, []byte("-----BEGIN PGP SIGNED MESSAGE-----")); len(bytes.TrimSpace(data[:max(i, 0)])) != 0 {
		return nil, errors.New("InRelease: data before the signed message")
	}
	signature, err := readAllCapped(block)
	if err != nil {
		return nil, err
	}
	signers := keys.verify(block.Bytes, signature, now)
	if len(signers) == 0 {
		return nil, errors.New("InRelease: no good signature by a known archive key")
	}
	r, err := parseRelease(block.Plaintext)
	if err != nil {
		return nil, fmt.Errorf("InRelease: %w", err)
	}
	r.Signers = signers
	return r, nil
}

func readAllCapped(block *clearsign.Block) ([]byte, error) {
	b := new(bytes.Buffer)
	if _, err := b.ReadFrom(block.ArmoredSignature.Body); err != nil {
		return nil, fmt.Errorf("InRelease: signature: %w", err)
	}
	return b.Bytes(), nil
}

// maxSignatures is how many signatures of one file are tried; Debian's have up to four. Each costs a hash
// of the whole file.
const maxSignatures = 16

// verify tries every signature packet by itself: one of an unknown key must not hide a good one.
func (k Keyring) verify(signed, signature []byte, now time.Time) []string {
	seen := map[string]bool{}
	packets := packet.NewReader(bytes.NewReader(signature))
	for range maxSignatures {
		p, err := packets.Next()
		if err != nil {
			break
		}
		sig, ok := p.(*packet.Signature)
		if !ok {
			continue
		}
		var one bytes.Buffer
		if err := sig.Serialize(&one); err != nil {
			continue
		}
		cfg := &packet.Config{Time: func() time.Time { return now }}
		if e, err := openpgp.CheckDetachedSignature(k.list, bytes.NewReader(signed), &one, cfg); err == nil {
			seen[hex.EncodeToString(e.PrimaryKey.Fingerprint)] = true
		}
	}
	var all []string
	for f := range seen {
		all = append(all, f)
	}
	sort.Strings(all)
	return all
}

func parseRelease(text []byte) (*Release, error) {
	pr := NewParagraphReader(bytes.NewReader(text))
	para, err := pr.Next()
	if err != nil {
		return nil, err
	}
	if _, err := pr.Next(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one stanza")
	}
	r := &Release{Suite: para["suite"], Codename: para["codename"], Priority: priority(para), Files: map[string]IndexFile{}}
	if r.Date, err = parseDate(para["date"]); err != nil {
		return nil, fmt.Errorf("date: %w", err)
	}
	if v := para["valid-until"]; v != "" {
		if r.ValidUntil, err = parseDate(v); err != nil {
			return nil, fmt.Errorf("valid-until: %w", err)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(para["sha256"]), "\n") {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("sha256: line %.80q: want hash, size and path", line)
		}
		var file IndexFile
		if file.SHA256, err = parseSHA256(f[0]); err != nil {
			return nil, err
		}
		if file.Size, err = strconv.ParseInt(f[1], 10, 64); err != nil || file.Size < 0 {
			return nil, fmt.Errorf("sha256: size %.40q: want a number", f[1])
		}
		if _, twice := r.Files[f[2]]; twice {
			return nil, fmt.Errorf("sha256: path %.200q twice", f[2])
		}
		r.Files[f[2]] = file
	}
	return r, nil
}

// priority is apt's default (apt_preferences(5), "APT's Default Priority Assignments").
func priority(para Paragraph) int {
	switch {
	case para["notautomatic"] != "yes":
		return 500
	case para["butautomaticupgrades"] == "yes":
		return 100
	}
	return 1
}

// parseSHA256 reads 64 hex digits.
func parseSHA256(s string) (sum [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("sha256 %.80q: want 64 hex digits", s)
	}
	return [32]byte(b), nil
}

func parseDate(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC1123, "Mon, _2 Jan 2006 15:04:05 MST", time.RFC1123Z} {
		if t, err := time.Parse(layout, s); err == nil && t.Unix() > 0 { // the zero time means: no date
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.60q: want a date like \"Sat, 05 Sep 2026 10:00:00 UTC\"", s)
}
