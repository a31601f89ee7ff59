package verity

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParamRefusals(t *testing.T) {
	for want, p := range map[string]Params{
		"no block":           {},
		"want at most 22517": {DataBlocks: 1 << 51},
		"want at most 14073": {DataBlocks: 1 << 47, DataBlockSize: 65536},
		"salt: 257 bytes":    {DataBlocks: 1, Salt: make([]byte, 257)},
		"hash offset 513":    {DataBlocks: 1, HashOffset: 513},
		"hash offset 512":    {DataBlocks: 1, HashOffset: 512, NoSuperblock: true},
		"hash offset 1536":   {DataBlocks: 1, HashOffset: 1536, HashBlockSize: 1024, NoSuperblock: true},
		`hash "md5"`:         {DataBlocks: 1, Hash: "md5"},
		`hash "SHA256"`:      {DataBlocks: 1, Hash: "SHA256"},
		"data block size 256: want a power of two from 512 to 65536": {DataBlocks: 1, DataBlockSize: 256},
		"hash block size 4097":   {DataBlocks: 1, HashBlockSize: 4097},
		"hash block size 131072": {DataBlocks: 1, HashBlockSize: 131072},
		"data block size -512":   {DataBlocks: 1, DataBlockSize: -512},
		"hash offset -4096":      {DataBlocks: 1, HashOffset: -BlockSize},
		"hash offset 46116":      {DataBlocks: 1, HashOffset: 1<<62 + BlockSize},
	} {
		_, err1 := HashFileSize(p)
		_, err2 := NewWriter(new(memFile), p)
		_, err3 := Format(t.Context(), bytes.NewReader(nil), new(memFile), p)
		err4 := Verify(t.Context(), bytes.NewReader(nil), bytes.NewReader(nil), RootHash{}, p)
		for _, err := range []error{err1, err2, err3, err4} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
	}
}

func TestRootHashText(t *testing.T) {
	for _, s := range []string{"", "00", strings.Repeat("0", 63), strings.Repeat("g", 64), strings.Repeat("0", 65), " " + strings.Repeat("0", 63), strings.Repeat("0", 42)} {
		r := testRoot(1)
		if err := r.UnmarshalText([]byte(s)); err == nil || r != testRoot(1) {
			t.Errorf("root hash %q: no error", s)
		}
	}
	want, err := NewRootHash([]byte{0xab, 31: 0xcd})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `"ab`+strings.Repeat("0", 60)+`cd"` {
		t.Errorf("json %s, %v", text, err)
	}
	var got RootHash
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("read back %v, %v", got, err)
	}
	if got, err := ParseRootHash(strings.ToUpper(want.String())); err != nil || got != want {
		t.Errorf("upper case: %v, %v", got, err)
	}
	for h, size := range map[Hash]int{SHA1: 20, SHA256: 32, SHA512: 64} {
		s := strings.Repeat("5a", size)
		got, err := ParseRootHash(s)
		if err != nil || got.Size() != size || h.Size() != size || got.String() != s || len(got.Bytes()) != size {
			t.Errorf("%s: read back %v, %v", h, got, err)
		}
	}
	if got, err := NewRootHash(make([]byte, 31)); err == nil || got != (RootHash{}) {
		t.Errorf("31 bytes: %v, %v", got, err)
	}
}

func TestUUIDText(t *testing.T) {
	for _, s := range []string{
		"", "0123456789abcdef0123456789abcdef", "0123456-789ab-cdef-0123-456789abcdef",
		"z1234567-89ab-cdef-0123-456789abcdef", "01234567-89ab-cdef-0123-456789abcde", "-1234567-89ab-cdef-0123-456789abcdef0",
		"01234567-89ab-cdef-0123-456789abcdef0123", strings.Repeat("0", 4096), "01234567-89ab-cdef-0123-456789abcdef-", "{01234567-89ab-cdef-0123-456789abcdef}",
	} {
		if u, err := ParseUUID(s); err == nil || u != ([16]byte{}) {
			t.Errorf("uuid %q: %x, %v", s, u, err)
		}
	}
	for _, s := range []string{"01234567-89AB-cdef-0123-456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"} {
		if u, err := ParseUUID(s); err != nil || u != testUUID || FormatUUID(u) != strings.ToLower(s) {
			t.Errorf("uuid %q: %x, %v", s, u, err)
		}
	}
}

func TestSuperblock(t *testing.T) {
	p := Params{DataBlocks: 129, Salt: []byte("abc"), UUID: testUUID, HashOffset: 8192}
	_, hash := format(t, testData(129), p)
	got, err := ReadSuperblock(bytes.NewReader(hash), 8192)
	if err != nil || got.DataBlocks != 129 || string(got.Salt) != "abc" || got.UUID != testUUID || got.HashOffset != 8192 || got.NoSuperblock {
		t.Fatalf("read %+v, %v", got, err)
	}
	if _, err := ReadSuperblock(bytes.NewReader(hash), 0); !errors.Is(err, ErrNoSuperblock) {
		t.Errorf("at offset 0: %v", err)
	}
	if _, err := ReadSuperblock(bytes.NewReader(hash), -BlockSize); err == nil {
		t.Error("negative offset: no error")
	}
	if _, err := ReadSuperblock(brokenFile{}, 0); err == nil || !strings.Contains(err.Error(), "bad sector") {
		t.Errorf("unreadable: %v", err)
	}
}

// TestSuperblockRefusals changes each field to something the package does not write.
func TestSuperblockRefusals(t *testing.T) {
	good := Params{DataBlocks: 129, Salt: []byte("abc")}.marshalSuperblock()
	for _, c := range []struct {
		at   int
		to   byte
		want string
	}{
		{0, 'V', "no verity signature"},
		{8, 2, "version 2, want 1"},
		{12, 2, "hash type 2, want 0 or 1"},
		{32, 'S', `hash "Sha256": want sha1, sha256 or sha512`},
		{32, 0, "no hash name"},
		{39, 'x', "reserved bytes"}, // behind the name's zero
		{65, 1, "data block size 256: want 512 to 65536"},
		{64, 1, "data block size 4097: want a power of two"},
		{66, 2, "data block size 135168"},
		{68, 1, "hash block size 4097: want a power of two"},
		{71, 255, "hash block size 4278194176"},
		{72, 0, "no block"},
		{79, 1, "blocks, want at most"},
		{81, 2, "salt of 515 bytes, want at most 256"},
		{80, 2, "reserved bytes"}, // the salt's third byte is now none of it
		{83, 1, "reserved bytes"},
		{91, 1, "reserved bytes"},
		{344, 1, "reserved bytes"},
		{511, 1, "reserved bytes"},
	} {
		bad := bytes.Clone(good)
		bad[c.at] = c.to
		if _, err := ReadSuperblock(bytes.NewReader(bad), 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("byte %d: %v, want %q", c.at, err, c.want)
		}
	}
	for n := range good {
		if _, err := ReadSuperblock(bytes.NewReader(good[:n]), 0); err == nil || !strings.Contains(err.Error(), "ends before byte 512") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func FuzzReadSuperblock(f *testing.F) {
	f.Add(Params{DataBlocks: 5, Salt: []byte("x")}.marshalSuperblock())
	f.Add(Params{DataBlocks: 9, Hash: SHA512, DataBlockSize: 512, HashBlockSize: 65536, Format0: true}.marshalSuperblock())
	f.Add(Params{DataBlocks: 1<<51 - 1, Salt: make([]byte, 256), UUID: testUUID}.marshalSuperblock())
	f.Add([]byte("verity\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ReadSuperblock(bytes.NewReader(b), 0)
		if err != nil {
			return
		}
		if !bytes.Equal(p.marshalSuperblock(), b[:superblockSize]) {
			t.Error("read parameters do not give the same superblock")
		}
		if _, err := HashFileSize(p); err != nil {
			t.Error(err)
		}
	})
}
