package gpu

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// ShipmentSchema names what an enclave hands to clients that ask for its GPUs:
//
//	{"schema": "tally.gpu-set/v2", "set": {…}, "rims": ["…"], "ocsp": ["…"]}
//
// set is, byte for byte, the document that the claims bind ([SetDigest]). Manifests and OCSP responses (base64) stand beside it,
// bound by nothing: the vendor signed them, and responses are newer than the key.
const ShipmentSchema = "tally.gpu-set/v2"

// MaxShipment is the size in bytes above which a shipment is refused. The samples' eight GPUs and four switches have
// 140 KiB, and three manifests in base64 about 100.
const MaxShipment = 1 << 20

// maxRIMs bounds the manifests of a shipment: one or two for each version of driver and VBIOS.
const maxRIMs = 64

// A Shipment is such a message. Nothing in it is verified.
type Shipment struct {
	Document []byte   // [ParseSet]
	RIMs     [][]byte // [ParseRIM]
	OCSP     [][]byte // DER
}

// Marshal writes s. The document must be one that [Set.Marshal] wrote.
func (s *Shipment) Marshal() ([]byte, error) {
	if !json.Valid(s.Document) || s.Document[0] != '{' {
		return nil, errors.New("GPU set: document: want a JSON object")
	}
	lists, err := json.Marshal(struct {
		RIMs [][]byte `json:"rims"`
		OCSP [][]byte `json:"ocsp"`
	}{append([][]byte{}, s.RIMs...), append([][]byte{}, s.OCSP...)})
	if err != nil {
		return nil, err
	}
	// By hand: a JSON encoder may write a document otherwise than it stands there, and its digest is bound.
	b := bytes.Join([][]byte{[]byte(`{"schema":"` + ShipmentSchema + `","set":`), s.Document, []byte(","), lists[1:]}, nil)
	if len(b) > MaxShipment {
		return nil, fmt.Errorf("GPU set: %d bytes, want at most %d", len(b), MaxShipment)
	}
	return b, nil
}

// IsShipment reports whether data begins like a shipment.
func IsShipment(data []byte) bool {
	return bytes.HasPrefix(data, []byte(`{"schema":"`+ShipmentSchema+`"`))
}

// ParseShipment reads a shipment.
func ParseShipment(data []byte) (*Shipment, error) {
	if len(data) > MaxShipment {
		return nil, fmt.Errorf("GPU set: %d bytes, want at most %d", len(data), MaxShipment)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var f struct {
		Schema string          `json:"schema"`
		Set    json.RawMessage `json:"set"`
		RIMs   [][]byte        `json:"rims"`
		OCSP   [][]byte        `json:"ocsp"`
	}
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("GPU set: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("GPU set: more than one JSON value")
	}
	switch {
	case f.Schema != ShipmentSchema:
		return nil, fmt.Errorf("GPU set: schema %.40q, want %s", f.Schema, ShipmentSchema)
	case len(f.Set) == 0 || f.Set[0] != '{':
		return nil, errors.New("GPU set: set: want an object")
	case len(f.RIMs) > maxRIMs || len(f.OCSP) > MaxResponses:
		return nil, fmt.Errorf("GPU set: %d manifests and %d responses, want at most %d and %d", len(f.RIMs), len(f.OCSP), maxRIMs, MaxResponses)
	}
	return &Shipment{Document: f.Set, RIMs: f.RIMs, OCSP: f.OCSP}, nil
}

// ParseRIMs reads manifests, each once however often it stands there, as many at a time as there are processors.
func ParseRIMs(files ...[]byte) ([]*RIM, error) {
	rims, errs, sums := make([]*RIM, len(files)), make([]error, len(files)), make([][32]byte, len(files))
	beside(len(files), func(i int) { sums[i] = sha256.Sum256(files[i]) })
	beside(len(files), func(i int) {
		if slices.Index(sums, sums[i]) == i {
			rims[i], errs[i] = parseRIM(files[i], sums[i])
		}
	})
	for i, err := range errs {
		if err != nil {
			return nil, refuse(BadRIM, "manifest %d: %w", i, err)
		}
	}
	return slices.DeleteFunc(rims, func(r *RIM) bool { return r == nil }), nil
}

// beside does what is to be done for each of n, as many at a time as there are processors.
func beside(n int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}
