package release

import (
	"encoding/base64"
	"fmt"
)

// TLogProof returns the entry as a C2SP tlog-proof (c2sp.org/tlog-proof@v1): index, inclusion proof and
// checkpoint with its cosignatures, about the record e.Body. Verifiers that know nothing of Sigstore read it.
func (e *Entry) TLogProof() []byte {
	out := fmt.Appendf(nil, "c2sp.org/tlog-proof@v1\nindex %d\n", e.Index)
	for _, h := range e.Proof {
		out = append(base64.StdEncoding.AppendEncode(out, h[:]), '\n')
	}
	return append(append(out, '\n'), e.Checkpoint...)
}
