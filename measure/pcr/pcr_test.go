package pcr

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
)

func vectorDisk(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/vectors/disk-first-1MiB.img.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRealBoot compares with the registers a guest's TPM held: all that the UKI's own bytes do not enter.
func TestRealBoot(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/uki-q72-trixiefw.pcrs.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[Bank]map[string]string
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != 4 {
		t.Fatalf("%d banks in the vector, want 4", len(want))
	}
	disk := vectorDisk(t)
	for bank, pcrs := range want {
		r, err := Boot(Input{UKI: fakeUKI("257.13-1", nil), Disk: bytes.NewReader(disk), SecureBoot: SecureBootEmpty}, bank)
		if err != nil {
			t.Fatal(err)
		}
		for n, w := range pcrs {
			i, _ := strconv.Atoi(n)
			if got := r.PCRs[i].String(); got != w {
				t.Errorf("%s PCR %s: %s, the TPM held %s", bank, n, got, w)
			}
		}
	}
}

// TestLogDigests holds single events against the event log of that boot and of systemd's names.
func TestLogDigests(t *testing.T) {
	r, err := Boot(Input{UKI: fakeUKI("257.13-1", nil), Disk: bytes.NewReader(vectorDisk(t)), SecureBoot: SecureBootZero}, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		`"Calling EFI Application from Boot Option"`: "3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba",
		"separator":                       "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119",
		"GPT":                             "bbcca615a0fe296e0d15105f7595a13901c875217ecc12869bec59f4966c051a",
		".linux (name)":                   "0da293e37ad5511c59be47993769aacb91b243f7d010288e118dc90e95aaef5a",
		".osrel (name)":                   "3fb9e4e3cc810d4326b5c13cef18aee1f9df8c5f4f7f5b96665724fa3b846e08",
		".cmdline (name)":                 "461203a89f23e36c3a4dc817f905b00484d2cf7e7d9376f13df91c41d84abe46",
		".initrd (name)":                  "15ee37e75f1e8d42080e91fdbbd2560780918c81fe3687ae6d15c472bbdaac75",
		".uname (name)":                   "da7a6d941caa9d28b8a3665c4865c143db8f99400ac88d883370ae3021636c30",
		".sbat (name)":                    "ff552fd255be18a3d61c0da88976fc71559d13aad12d1dfe1708cf950cc4b74c",
		"variable PK":                     "dea7b80ab53a3daaa24d5cc46c64e1fa9ffd03739f90aadbd8c0867c4a5b4890",
		"variable KEK":                    "e670e121fcebd473b8bc41bb801301fc1d9afa33904f06f7149b74f12c47a68f",
		"variable db":                     "baf89a3ccace52750c5f0128351e0422a41597a1adfd50822aa363b9d124ea7c",
		"variable dbx":                    "9f75b6823bff6af1024a4e2036719cdd548d3cbc2bf1de8e7ef4d0ed01f94bf9",
		`"Exit Boot Services Invocation"`: "d8043d6b7b85ad358eb3b6ae6a873ab7ef23a26352c5dc4faa5aeedacf5eb41b",
		`"Exit Boot Services Returned with Success"`: "b54f7542cbd872a81a9d9dea839b2b8d747c7ebd5ea6615c40f42f44a6dbeba0",
	}
	for _, e := range r.Events {
		if w, ok := want[e.What]; ok {
			if e.Digest.String() != w {
				t.Errorf("%s: %s, the log says %s", e.What, e.Digest, w)
			}
			delete(want, e.What)
		}
	}
	for what := range want {
		t.Errorf("no event %s", what)
	}
}

// TestStubRule: releases before 258 measure the inner kernel, those before 257 add no os-release.
func TestStubRule(t *testing.T) {
	pcrs := map[string]map[int]Value{}
	for _, stub := range []string{"252", "257.13-1~deb13u1", "258", "262.1"} {
		r, err := Boot(Input{UKI: fakeUKI(stub, nil)}, SHA256)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range r.Events {
			if e.What == ".linux (Authenticode)" {
				n++
			}
		}
		if want := map[bool]int{true: 1, false: 0}[stub < "258"]; n != want {
			t.Errorf("stub %s: %d events of the inner kernel, want %d", stub, n, want)
		}
		pcrs[stub] = r.PCRs
		if _, ok := r.PCRs[5]; ok {
			t.Error("PCR 5 without a disk")
		}
		if _, ok := r.PCRs[7]; ok {
			t.Error("PCR 7 without variables")
		}
	}
	if pcrs["252"][9].String() == pcrs["258"][9].String() {
		t.Error("PCR 9 is the same with and without the stub's archive")
	}
	if pcrs["258"][11].String() != pcrs["262.1"][11].String() {
		t.Log("PCR 11 differs by .sdmagic, which is not measured: it must not")
		t.Fail()
	}
}

func TestEverySectionMovesARegister(t *testing.T) {
	base, err := Boot(Input{UKI: fakeUKI("257", nil)}, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for section, pcrs := range map[string][]int{".cmdline": {4, 9, 11}, ".initrd": {4, 9, 11}, ".osrel": {4, 9, 11}, ".uname": {4, 11}, ".sbat": {4, 11}} {
		r, err := Boot(Input{UKI: fakeUKI("257", map[string][]byte{section: []byte("other")})}, SHA256)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{2, 3, 4, 6, 9, 11, 12} {
			moved := r.PCRs[n].String() != base.PCRs[n].String()
			want := false
			for _, p := range pcrs {
				want = want || p == n
			}
			if moved != want {
				t.Errorf("%s: PCR %d moves %v, want %v", section, n, moved, want)
			}
		}
	}
}

func TestPhases(t *testing.T) {
	r, err := Boot(Input{UKI: fakeUKI("257", nil), Phases: []string{"enter-initrd"}}, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	plain, _ := Boot(Input{UKI: fakeUKI("257", nil)}, SHA256)
	if r.PCRs[11].String() == plain.PCRs[11].String() {
		t.Error("a phase does not move PCR 11")
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		in   Input
		bank Bank
		want string
	}{
		"zero":            {Input{}, SHA256, "no MZ"},
		"no bank":         {Input{UKI: fakeUKI("257", nil)}, "", "bank"},
		"md5":             {Input{UKI: fakeUKI("257", nil)}, "md5", "bank"},
		"old stub":        {Input{UKI: fakeUKI("251", nil)}, SHA256, "want 252 to 262"},
		"new stub":        {Input{UKI: fakeUKI("300", nil)}, SHA256, "want 252 to 262"},
		"no stub":         {Input{UKI: fakeUKI("", nil)}, SHA256, "names no systemd-stub"},
		"other section":   {Input{UKI: fakeUKI("257", map[string][]byte{".dtbauto": {1}})}, SHA256, `".dtbauto"`},
		"no kernel":       {Input{UKI: fakeUKI("257", map[string][]byte{".linux": nil})}, SHA256, `no section ".linux"`},
		"newline":         {Input{UKI: fakeUKI("257", map[string][]byte{".cmdline": []byte("quiet\n")})}, SHA256, "printable ASCII without spaces around"},
		"early microcode": {Input{UKI: fakeUKI("255", map[string][]byte{".ucode": []byte("x")})}, SHA256, "does not know it"},
		"phases joined":   {Input{UKI: fakeUKI("257", nil), Phases: []string{"a:b"}}, SHA256, "phase"},
		"kernel no image": {Input{UKI: fakeUKI("257", map[string][]byte{".linux": []byte("x")})}, SHA256, "section .linux"},
		"no GPT":          {Input{UKI: fakeUKI("257", nil), Disk: bytes.NewReader(make([]byte, 1<<20))}, SHA256, "no GPT"},
		"short disk":      {Input{UKI: fakeUKI("257", nil), Disk: bytes.NewReader(nil)}, SHA256, "GPT header"},
		"secure boot":     {Input{UKI: fakeUKI("257", nil), SecureBoot: "on"}, SHA256, "secure boot form"},
	} {
		if r, err := Boot(c.in, c.bank); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", name, r, err, c.want)
		}
	}
}

// TestSectionsApart: the stub reads sections where they are loaded, so one over another is not what the file says.
func TestSectionsApart(t *testing.T) {
	le := binary.LittleEndian
	const table = 0x80 + 24 + 240
	good := fakeUKI("257", nil)
	place := func(name string) int {
		return table + bytes.Index(good[table:0x400], []byte(name))
	}
	for name, c := range map[string]struct {
		at   func(cmdline, osrel []byte) uint32
		want string
	}{
		"over its neighbour": {func(_, osrel []byte) uint32 { return le.Uint32(osrel[12:]) + le.Uint32(osrel[8:]) - 1 }, `section ".cmdline"`},
		"over the headers":   {func(_, _ []byte) uint32 { return 0x3ff }, "where the headers end at 0x400"},
		"beside it":          {func(_, osrel []byte) uint32 { return le.Uint32(osrel[12:]) + le.Uint32(osrel[8:]) }, ""},
	} {
		b := bytes.Clone(good)
		cmdline, osrel := b[place(".cmdline"):], b[place(".osrel"):]
		le.PutUint32(cmdline[12:], c.at(cmdline, osrel))
		_, err := readUKI(b)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
}

// TestGPTRefusals changes what of the GPT's header says where the entries are, and cuts the disk before they end.
func TestGPTRefusals(t *testing.T) {
	le := binary.LittleEndian
	good := vectorDisk(t)
	h := good[512:]
	entries := int(le.Uint64(h[72:]))*512 + int(le.Uint32(h[80:]))*128
	if _, err := gptEvent(bytes.NewReader(good[:entries])); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"signature":       {func(b []byte) []byte { b[512] = 'X'; return b }, "no GPT"},
		"header size":     {func(b []byte) []byte { b[512+12]++; return b }, "no GPT"},
		"no entries":      {func(b []byte) []byte { le.PutUint32(b[512+80:], 0); return b }, "GPT of 0 entries"},
		"many entries":    {func(b []byte) []byte { le.PutUint32(b[512+80:], 1025); return b }, "GPT of 1025 entries"},
		"large entries":   {func(b []byte) []byte { le.PutUint32(b[512+84:], 256); return b }, "of 256 bytes"},
		"over the header": {func(b []byte) []byte { le.PutUint64(b[512+72:], 1); return b }, "at sector 1"},
		"far":             {func(b []byte) []byte { le.PutUint64(b[512+72:], 1<<32+1); return b }, "at sector 4294967297"},
		"revision":        {func(b []byte) []byte { b[512+10] = 2; return sealGPT(b) }, "GPT of revision 0x20000, want 0x10000"},
		"checksum":        {func(b []byte) []byte { b[512+56]++; return b }, "the GPT header has the checksum"},
		"place":           {func(b []byte) []byte { b[512+24] = 2; return sealGPT(b) }, "in sector 1 says that it is in sector 2"},
		"entry":           {func(b []byte) []byte { b[entries-1]++; return b }, "the GPT entries have the checksum"},
		"cut":             {func(b []byte) []byte { return b[:entries-1] }, "reading the GPT entries"},
		"cut header":      {func(b []byte) []byte { return b[:1023] }, "reading the GPT header"},
	} {
		if d, err := gptEvent(bytes.NewReader(c.change(bytes.Clone(good)))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v; want an error with %q", name, len(d), err, c.want)
		}
	}
	if d, err := GPT(bytes.NewReader(good), "md5"); err == nil {
		t.Errorf("%v, want an error", d)
	}
	b, err := ReadBoot(fakeUKI("257", nil), "md5", nil)
	if err == nil {
		t.Errorf("%v, want an error", b)
	}
}

// sealGPT writes the checksums of entries and header anew.
func sealGPT(b []byte) []byte {
	le, h := binary.LittleEndian, b[512:512+92]
	at := le.Uint64(h[72:]) * 512
	le.PutUint32(h[88:], crc32.ChecksumIEEE(b[at:at+uint64(le.Uint32(h[80:]))*128]))
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return b
}

// TestGPTGap: an unused entry between used ones leaves no trace but in the checksums.
func TestGPTGap(t *testing.T) {
	near, far := vectorDisk(t), vectorDisk(t)
	first := far[1024 : 1024+128]
	copy(far[1024+8*128:], first)
	clear(first)
	// Both have it last, with as many entries unused before it.
	copy(near[1024+9*128:], near[1024:1024+128])
	clear(near[1024 : 1024+128])
	a, err := gptEvent(bytes.NewReader(sealGPT(near)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := gptEvent(bytes.NewReader(sealGPT(far)))
	if err != nil || !bytes.Equal(a[92:], b[92:]) || bytes.Equal(a, b) {
		t.Errorf("%x, %v; want the entries of %x under another checksum", b, err, a)
	}
}

func FuzzGPT(f *testing.F) {
	f.Add(vectorDisk(f)[:20000])
	f.Fuzz(func(t *testing.T, b []byte) { gptEvent(bytes.NewReader(b)) })
}

func TestExtraCPIO(t *testing.T) {
	b := extraCPIO("os-release", []byte("ID=x\n"))
	if !bytes.HasPrefix(b, []byte("07070100000001000041"+"6d")) || len(b)%4 != 0 {
		t.Errorf("archive starts with %s", hex.EncodeToString(b[:40]))
	}
}

// TestInitrd: alone it is served as it is; with what the stub adds, each part is padded.
func TestInitrd(t *testing.T) {
	plain, err := readUKI(fakeUKI("252", map[string][]byte{".osrel": nil, ".initrd": []byte("odd")}))
	if err != nil {
		t.Fatal(err)
	}
	if got := plain.initrd(252); string(bytes.Join(got, nil)) != "odd" {
		t.Errorf("alone: %q", got)
	}
	full, err := readUKI(fakeUKI("257", map[string][]byte{".ucode": []byte("micro"), ".initrd": []byte("odd"), ".pcrpkey": []byte("key"), ".pcrsig": []byte("{}")}))
	if err != nil {
		t.Fatal(err)
	}
	got := string(bytes.Join(full.initrd(257), nil))
	for _, want := range []string{"micro\x00\x00\x00odd\x00070701", ".extra/tpm2-pcr-signature.json", ".extra/tpm2-pcr-public-key.pem", ".extra/os-release"} {
		i := strings.Index(got, want)
		if i < 0 {
			t.Fatalf("%q is missing, or out of order", want)
		}
		got = got[i:]
	}
}

// FuzzBoot gives Boot a hostile UKI.
func FuzzBoot(f *testing.F) {
	f.Add(fakeUKI("257", map[string][]byte{".ucode": []byte("m"), ".pcrsig": []byte("{}")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Boot(Input{UKI: b, SecureBoot: SecureBootEmpty}, SHA1)
		if err != nil {
			return
		}
		if len(r.PCRs) != 12 || len(r.Events) < 20 {
			t.Errorf("%d registers, %d events", len(r.PCRs), len(r.Events))
		}
	})
}
