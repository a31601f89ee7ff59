package measure

import "testing"

// TestValueCovers: what holds nothing of the image says so.
func TestValueCovers(t *testing.T) {
	for want, v := range map[string]Value{
		"v pcr7 sha256 00 (covers nothing)":         {Platform: Platform{Name: "v", TEE: "vtpm", Bank: "sha256"}, Register: "pcr7"},
		"v pcr9 sha256 00 (covers cmdline, initrd)": {Platform: Platform{Name: "v", TEE: "vtpm", Bank: "sha256"}, Register: "pcr9", Covers: []Part{PartCmdline, PartInitrd}},
	} {
		v.Digest = []byte{0}
		if got := v.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
