package pcr

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// snakeoil is Debian's variable store with enrolled keys; see measure/tdx/testdata/vectors/SOURCE.
func snakeoil(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("../tdx/testdata/vectors/OVMF_VARS_4M.snakeoil.fd.xz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRealSecureBoot: PCR 7 of a machine with enrolled keys and Secure Boot on, event by event.
func TestRealSecureBoot(t *testing.T) {
	data, err := os.ReadFile("../tdx/testdata/vectors/boots-without-tdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Boots []struct {
			Name   string
			Events [][]any
		}
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, b := range v.Boots {
		for _, e := range b.Events {
			if b.Name == "direct-q10-secureboot" && e[0].(float64) == 7 {
				want = append(want, e[2].(string))
			}
		}
	}
	r, err := Boot(Input{UKI: fakeUKI("257", nil), Variables: snakeoil(t)}, SHA384)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range r.Events {
		if e.Register == "pcr7" {
			got = append(got, e.Digest.String())
		}
		if e.What == ".linux (Authenticode)" {
			t.Error("with Secure Boot on the inner kernel is not measured")
		}
	}
	if len(want) != 7 || !slices.Equal(got, want) {
		t.Errorf("PCR 7 %v, the machine logged %v", got, want)
	}
}

// TestVariableStores: one without keys is like none; nonsense is refused.
func TestVariableStores(t *testing.T) {
	blank := snakeoil(t)
	for i := 100; i < len(blank); i++ { // behind the headers of volume and store
		blank[i] = 0xff
	}
	with, err := Boot(Input{UKI: fakeUKI("257", nil), SecureBoot: SecureBootEmpty, Variables: blank}, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	without, err := Boot(Input{UKI: fakeUKI("257", nil), SecureBoot: SecureBootEmpty}, SHA256)
	if err != nil || with.PCRs[7].String() != without.PCRs[7].String() {
		t.Errorf("%v: %s and %s", err, with.PCRs[7], without.PCRs[7])
	}
	if _, err := Boot(Input{UKI: fakeUKI("257", nil), Variables: []byte("no store")}, SHA256); err == nil || !strings.Contains(err.Error(), "variable store") {
		t.Errorf("no store: %v", err)
	}
	several := &keyStore{on: true, values: map[string][]byte{"db": make([]byte, 100)}}
	if err := (&eventLog{bank: SHA256}).authority(several); err == nil || !strings.Contains(err.Error(), "not one certificate") {
		t.Errorf("other db: %v", err)
	}
}

// TestDisabledKeys: with keys and the switch off the variable is there, a zero byte whatever the form; without a form
// nothing is said of PCR 7.
func TestDisabledKeys(t *testing.T) {
	k := &keyStore{values: map[string][]byte{"PK": {1}}}
	digest := func(form SecureBootForm, k *keyStore) string {
		l := &eventLog{bank: SHA256}
		if err := l.secureBoot(k, form); err != nil {
			t.Fatal(err)
		}
		if len(l.events) == 0 {
			return ""
		}
		return l.events[0].Digest.String()
	}
	none := &keyStore{values: map[string][]byte{}}
	zero, empty := digest(SecureBootZero, none), digest(SecureBootEmpty, none)
	if zero == empty || digest(SecureBootEmpty, k) != zero || digest(SecureBootZero, k) != zero || digest("", k) != "" {
		t.Errorf("zero %s, empty %s, with keys %s, %s, %q", zero, empty, digest(SecureBootEmpty, k), digest(SecureBootZero, k), digest("", k))
	}
	for change, want := range map[string]bool{"": true, "owner only": false, "list size": false, "header": false, "entry size": false, "type": false, "two": false} {
		db := append(append(bytes.Clone(signatureX509[:]), 28+20, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0), make([]byte, 20)...)
		switch change {
		case "owner only":
			db = db[:28+15]
			db[16], db[24] = byte(len(db)), 15
		case "list size":
			db[16]++
		case "header":
			db[20]++
		case "entry size":
			db[24] = 10
		case "type":
			db[0] ^= 1
		case "two":
			db = append(db, db...)
		}
		l := &eventLog{bank: SHA256}
		if err := l.authority(&keyStore{on: true, values: map[string][]byte{"db": db}}); (err == nil) != want {
			t.Errorf("db, %s: %v", change, err)
		}
	}
}
