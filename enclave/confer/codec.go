package confer

import (
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// A Frame is a NoiseTransportFrame: one piece of a message.
type Frame struct {
	ID      int64 // chunk_id: the same for all pieces of a message
	Index   uint32
	Total   uint32
	Payload []byte
}

// A Chunk is a StreamChunk: a piece of an upload.
type Chunk struct {
	Data  []byte
	Final bool
	Seq   uint32
}

// A Request is a WebsocketRequest. Verb and Path are both empty in the later pieces of an upload.
type Request struct {
	ID         int64
	Verb, Path string
	Body       []byte // UTF-8; nil: none
	Chunk      *Chunk
}

// A Response is a WebsocketResponse: a whole answer, or one piece of a streamed one.
type Response struct {
	ID      int64
	Status  int32 // as in HTTP
	Body    []byte
	Headers map[string]string
}

func appendVarint(b []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// Marshal writes all four fields, as confer-proxy does.
func (f *Frame) Marshal() []byte {
	b := appendVarint(nil, 1, uint64(f.ID))
	b = appendVarint(b, 2, uint64(f.Index))
	b = appendVarint(b, 3, uint64(f.Total))
	return appendBytes(b, 4, f.Payload)
}

// ParseFrame reads a frame. Payload points into data.
func ParseFrame(data []byte) (*Frame, error) {
	f := new(Frame)
	seen, err := fields("frame", data, 4, map[protowire.Number]func(value) error{
		1: func(v value) error { f.ID = int64(v.n); return nil },
		2: func(v value) error { return v.uint32(&f.Index) },
		3: func(v value) error { return v.uint32(&f.Total) },
		4: func(v value) error { f.Payload = v.b; return nil },
	}, 4)
	if err == nil && seen != 0b11110 {
		err = fmt.Errorf("confer: frame: chunk_id, chunk_index, total_chunks and payload: one is missing")
	}
	return f, err
}

// Marshal writes r. It is an error when confer-proxy would refuse it.
func (r *Request) Marshal() ([]byte, error) {
	switch {
	case (r.Verb == "") != (r.Path == ""):
		return nil, fmt.Errorf("confer: request: want verb and path, or neither")
	case r.Verb == "" && r.Chunk == nil:
		return nil, fmt.Errorf("confer: request: want verb and path, or a chunk")
	case !utf8.ValidString(r.Verb) || !utf8.ValidString(r.Path) || !utf8.Valid(r.Body):
		return nil, fmt.Errorf("confer: request: verb, path and body: want UTF-8")
	}
	b := appendVarint(nil, 1, uint64(r.ID))
	if r.Verb != "" {
		b = appendBytes(appendBytes(b, 2, []byte(r.Verb)), 3, []byte(r.Path))
	}
	if r.Body != nil {
		b = appendBytes(b, 4, r.Body)
	}
	if c := r.Chunk; c != nil {
		if c.Seq > 1<<31-1 {
			return nil, fmt.Errorf("confer: request: chunk.seq: %d, want at most 2147483647", c.Seq)
		}
		p := appendBytes(nil, 1, c.Data)
		p = appendVarint(p, 2, protowire.EncodeBool(c.Final))
		b = appendBytes(b, 5, appendVarint(p, 3, uint64(c.Seq)))
	}
	return b, nil
}

// ParseRequest reads a request. What it holds points into data.
func ParseRequest(data []byte) (*Request, error) {
	r := new(Request)
	seen, err := fields("request", data, 5, map[protowire.Number]func(value) error{
		1: func(v value) error { r.ID = int64(v.n); return nil },
		2: func(v value) error { return v.text(&r.Verb) },
		3: func(v value) error { return v.text(&r.Path) },
		4: func(v value) error { r.Body = append([]byte{}, v.b...); return v.text(new(string)) },
		5: func(v value) (err error) { r.Chunk, err = parseChunk(v.b); return err },
	}, 2, 3, 4, 5)
	if err == nil && seen&0b10 == 0 {
		err = fmt.Errorf("confer: request: id: missing")
	}
	if err == nil {
		_, err = r.Marshal() // holds it to the same rules
	}
	return r, err
}

func parseChunk(data []byte) (*Chunk, error) {
	c := new(Chunk)
	_, err := fields("chunk", data, 3, map[protowire.Number]func(value) error{
		1: func(v value) error { c.Data = v.b; return nil },
		2: func(v value) error {
			c.Final = v.n == 1
			if v.n > 1 {
				return fmt.Errorf("%d, want 0 or 1", v.n)
			}
			return nil
		},
		3: func(v value) error { return v.uint32(&c.Seq) },
	}, 1)
	return c, err
}

// Marshal writes r; headers in the order of their names.
func (r *Response) Marshal() []byte {
	b := appendVarint(nil, 1, uint64(r.ID))
	b = appendVarint(b, 2, uint64(int64(r.Status)))
	if len(r.Body) > 0 {
		b = appendBytes(b, 3, r.Body)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Headers)) {
		b = appendBytes(b, 4, appendBytes(appendBytes(nil, 1, []byte(k)), 2, []byte(r.Headers[k])))
	}
	return b
}

// ParseResponse reads a response. Body points into data.
func ParseResponse(data []byte) (*Response, error) {
	r := new(Response)
	seen, err := fields("response", data, 3, map[protowire.Number]func(value) error{
		1: func(v value) error { r.ID = int64(v.n); return nil },
		2: func(v value) error {
			r.Status = int32(v.n)
			if r.Status < 100 || r.Status > 599 || uint64(r.Status) != v.n {
				return fmt.Errorf("%d, want an HTTP status", v.n)
			}
			return nil
		},
		3: func(v value) error { r.Body = v.b; return nil },
		4: r.header,
	}, 3, 4)
	if err == nil && seen&0b110 != 0b110 {
		err = fmt.Errorf("confer: response: id and status: one is missing")
	}
	return r, err
}

func (r *Response) header(v value) error {
	var key, text string
	if _, err := fields("header", v.b, 2, map[protowire.Number]func(value) error{
		1: func(v value) error { return v.text(&key) },
		2: func(v value) error { return v.text(&text) },
	}, 1, 2); err != nil {
		return err
	}
	if r.Headers == nil {
		r.Headers = map[string]string{}
	}
	if _, twice := r.Headers[key]; twice || len(r.Headers) == 64 {
		return fmt.Errorf("%.40q twice, or more than 64 of them", key)
	}
	r.Headers[key] = text
	return nil
}
