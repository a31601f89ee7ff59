package tdx

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"testing"

	"tally/internal/testtool"
	"tally/measure/eventlog"
	"tally/measure/pcr"
)

// TestGCEQuote holds the rules for Google's guests against registers that Intel's quoting enclave signed (package intel
// verifies the quote): of what is not public, the digests are those that the quote's makers published beside it.
func TestGCEQuote(t *testing.T) {
	dir := filepath.Join("testdata", "flashbots")
	quote, firmware := testtool.Sample(t, dir, "gcp-tdx-1782809233226668671"), string(testtool.Sample(t, dir, "gcp-tdx-firmware-1782809233226668671.yaml"))
	const body = 48 // TD report of a quote of version 4: MRTD at 136, RTMRs from 328 on
	said := func(field string) []byte {
		m := regexp.MustCompile(field + `: >-\s+([0-9a-f]+)`).FindStringSubmatch(firmware)
		if m == nil {
			t.Fatalf("no %s in %s", field, firmware)
		}
		b, err := hex.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got := quote[body+136:][:48]; string(got) != string(said("mrtd")) {
		t.Fatalf("MRTD %x: the firmware is another's", got)
	}
	shape, err := gceShape("c3-standard-4")
	if err != nil {
		t.Fatal(err)
	}
	// The last block's length is the RAM above 4 GiB: all of 16 GiB less the 3 below.
	hob := said("bytes")
	binary.LittleEndian.PutUint64(hob[len(hob)-8:], 13<<30)
	if d := sha512.Sum384(hob); hex.EncodeToString(d[:]) != shape.tdHOB {
		t.Errorf("TD HOB %x, want %s", d, shape.tdHOB)
	}
	narrow, err := shape.narrow("2026-06")
	if err != nil {
		t.Fatal(err)
	}
	digest := func(what, hex string) eventlog.Event { return known(what, hex) }
	b := &boot{what: "UKI", image: map[bool]eventlog.Digest{false: digest("", "82500f977e16a1e3fd47db792ac9c9fdd69caa73d8e719fe4489416355f23f5d0863ad796febfc1241bc3e868c3649a6").Digest},
		gpt: []eventlog.Event{digest("GPT", "488fa3f08aae01c1a46b497319e8a7d3b7335c9ff4f4d7fe6a3dd62c844b03de22157c0303be58f10e3152687778e68d")},
		uki: &pcr.UKIBoot{
			Inner: []eventlog.Event{digest(".linux (Authenticode)", "b2a6076ae199d325e553a5102cf1f4a18b5e67e36b33261ef20352052199ec5853b5133c0231b16f1198bb086f1cbfac")},
			Kernel: []eventlog.Event{digest("load options", "e03b89abf354a38976537b7a9138fd312e4cbf73b61eebc44086491701b1d167b9f6cb97a922325866c93e0834723d87"),
				digest("initrd", "99251a9997f552ce98364e3f7311ca47471e299b6fdb31226d738a10577959ab741cc2e7b8c268236153de568265d3f2")}}}
	rtmr1, err := b.rtmr1(Firmware{Release: 202411}, false, modeOff)
	if err != nil {
		t.Fatal(err)
	}
	for i, events := range [][]eventlog.Event{narrow.rtmr0(narrow.Seen[0], eventlog.Event{What: "configuration firmware volume", Digest: said("cfv")}), rtmr1, b.rtmr2(Firmware{Release: 202411})} {
		if got, want := Replay(events).String(), fmt.Sprintf("%x", quote[body+328+48*i:][:48]); got != want {
			t.Errorf("RTMR%d %s, the quote says %s", i, got, want)
		}
	}
}
