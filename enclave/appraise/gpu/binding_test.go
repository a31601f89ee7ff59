package gpu

import (
	"encoding/hex"
	"testing"

	"tally/enclave/evidence"
)

// TestBindingVector: the values are of this program, which shares nothing with ours.
//
//	import hashlib, struct
//	s = lambda b: hashlib.sha256(b).digest()
//	lp = lambda b: struct.pack(">H", len(b)) + b
//	u = lambda n: struct.pack(">Q", n)
//	f = [b"responder", b"\1" + bytes(31), s(b""), u(1), u(2), u(3), s(b""), s(b"example"), s(b"")]
//	rd = hashlib.sha512(lp(b"tally/1 key evidence") + b"".join(map(lp, f))).digest()
//	print(s(b"tally/1 gpu nonce\0" + rd).hex(), s(b"tally/1 gpu set\0" + s(b"{}")).hex())
func TestBindingVector(t *testing.T) {
	c := evidence.Claims{Authority: "example", Static: [32]byte{1}, Epoch: 1, NotBefore: 2, NotAfter: 3, GPU: []byte("does not count")}
	nonce, set := Nonce(c), SetDigest([]byte("{}"))
	if got := hex.EncodeToString(nonce[:]); got != "0c213120f35c7ed5d74403f7a694128b644a345c3d054b5c388613a19af116e7" {
		t.Errorf("nonce %s", got)
	}
	if got := hex.EncodeToString(set[:]); got != "554668beedde614617d1945b73865eadea75d8adf4a6fa078ec6ea262a5d2860" {
		t.Errorf("set digest %s", got)
	}
}
