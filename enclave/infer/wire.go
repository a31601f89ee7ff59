package infer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A RequestHead is what a request says before its body.
type RequestHead struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Type   string `json:"type"` // content type
}

// A ResponseHead is what an answer says before its body.
type ResponseHead struct {
	Status int    `json:"status"` // HTTP status, 200 to 599
	Type   string `json:"type"`   // content type
}

var errHead = errors.New("infer: head not understood")

// WriteTo writes the head.
func (h RequestHead) WriteTo(w io.Writer) (int64, error) { return writeHead(w, h) }

// WriteTo writes the head.
func (h ResponseHead) WriteTo(w io.Writer) (int64, error) { return writeHead(w, h) }

func writeHead(w io.Writer, v any) (int64, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	if len(b) > MaxHead {
		return 0, fmt.Errorf("infer: head of %d bytes, want at most %d", len(b), MaxHead)
	}
	n, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return int64(n), err
}

// ReadRequestHead reads a head and leaves r at the body. Its error quotes nothing of what was read.
func ReadRequestHead(r io.Reader) (h RequestHead, err error) {
	err = readHead(r, &h)
	return h, err
}

// ReadResponseHead reads a head and leaves r at the body.
func ReadResponseHead(r io.Reader) (h ResponseHead, err error) {
	if err = readHead(r, &h); err == nil && (h.Status < 200 || h.Status > 599) {
		err = errHead
	}
	return h, err
}

// readHead takes only the one spelling that writeHead has for a value.
func readHead(r io.Reader, v any) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return short(err)
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n < 2 || n > MaxHead {
		return errHead
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return short(err)
	}
	if json.Unmarshal(b, v) != nil {
		return errHead
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, b) {
		return errHead
	}
	return nil
}

// short makes a stream that ends within a head a bad head; other errors are the stream's own.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errHead
	}
	return err
}
