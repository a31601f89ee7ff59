package release

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth is far above what any of our formats nests.
const maxDepth = 32

const maxMessage = 512 // bytes of what encoding/json says

// unmarshalStrict decodes one JSON value into v. encoding/json alone accepts what other readers
// understand differently: keys in another case, keys twice (the last wins), null for anything, bytes
// after the value, invalid UTF-8. A signed format must have one meaning, so all of that is refused.
func unmarshalStrict(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkValue(dec, reflect.TypeOf(v).Elem(), nil, 0); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data after the JSON value")
	}
	err := json.Unmarshal(data, v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) { // its text names Go's types
		return fmt.Errorf("%sa %.64s is not a value here", where(wrong.Field), wrong.Value)
	}
	if err != nil && len(err.Error()) > maxMessage { // of a time it has all that stood in its place
		return fmt.Errorf("%.*s…", maxMessage, err)
	}
	return err
}

// where begins a message about the value at that path, "" for the whole.
func where(at string) string {
	if at == "" {
		return ""
	}
	return at + ": "
}

// A place is where a value stands. It becomes text in a message alone: a document that has a long key above many
// values would otherwise have it copied as often as it has values.
type place struct {
	up    *place // nil: the whole
	key   string // of an object
	index int    // in a list; -1: in an object
}

func (p *place) String() string {
	switch {
	case p == nil:
		return ""
	case p.index >= 0:
		return fmt.Sprintf("%s[%d]", p.up, p.index)
	case p.key == "" || !printable(p.key, 64): // below a json.RawMessage keys are anybody's
		return strings.TrimPrefix(fmt.Sprintf("%s.%.64q", p.up, p.key), ".")
	}
	return strings.TrimPrefix(fmt.Sprintf("%s.%s", p.up, p.key), ".")
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// checkValue walks the next value of dec beside the Go type it will be decoded into; a nil type (below a
// json.RawMessage) takes any keys, but still each of them once.
func checkValue(dec *json.Decoder, t reflect.Type, at *place, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%snested deeper than %d", where(at.String()), maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return noEOF(err)
	}
	if tok == nil && t != nil {
		return fmt.Errorf("%snull is not a value here", where(at.String()))
	}
	if t != nil && (t == reflect.TypeFor[json.RawMessage]() || t.Kind() == reflect.Interface) {
		t = nil
	}
	switch tok {
	case json.Delim('{'):
		err = checkObject(dec, t, at, depth)
	case json.Delim('['):
		if t != nil && (t.Kind() != reflect.Slice || reflect.PointerTo(t).Implements(textUnmarshaler)) {
			return fmt.Errorf("%sa list is not a value here", where(at.String()))
		}
		for i := 0; dec.More(); i++ {
			if err := checkValue(dec, elem(t), &place{at, "", i}, depth+1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	if err != nil {
		return err
	}
	_, err = dec.Token() // the closing bracket
	return noEOF(err)
}

func checkObject(dec *json.Decoder, t reflect.Type, at *place, depth int) error {
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return noEOF(err)
		}
		key, ok := tok.(string)
		if !ok {
			return fmt.Errorf("%skey is not a string", where(at.String()))
		}
		if seen[key] {
			return fmt.Errorf("%skey %.64q twice", where(at.String()), key)
		}
		seen[key] = true
		var ft reflect.Type
		if t != nil {
			if ft, ok = field(t, key); !ok {
				return fmt.Errorf("%sunknown key %.64q", where(at.String()), key)
			}
		}
		if err := checkValue(dec, ft, &place{at, key, -1}, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// field returns the type of the field of struct t that has exactly this JSON name.
func field(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for i := range t.NumField() {
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if tag == name {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

func elem(t reflect.Type) reflect.Type {
	if t == nil {
		return nil
	}
	return t.Elem()
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// marshalCompact is json.Marshal without HTML escapes.
func marshalCompact(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// base64Bytes are bytes that stand in JSON as standard base64 with padding, in their one canonical form.
type base64Bytes []byte

func (b base64Bytes) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

func (b *base64Bytes) UnmarshalText(text []byte) error {
	out, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err != nil || bytes.ContainsAny(text, "\r\n") {
		return errors.New("not canonical base64")
	}
	*b = out
	return nil
}

// decimal is a non-negative 63-bit number that stands in JSON as a string, as protobuf's JSON form does.
type decimal int64

func (d decimal) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(d), 10), nil }

func (d *decimal) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != string(text) {
		return fmt.Errorf("number %.32q: want canonical decimal digits", text)
	}
	*d = decimal(n)
	return nil
}

// A Digest is a SHA-256 (32 bytes), 64 lower-case hex digits in text.
type Digest [32]byte

// String returns 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns what String returns.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts what String returns and nothing else.
func (d *Digest) UnmarshalText(b []byte) error {
	var tmp Digest
	if len(b) != 2*len(tmp) || bytes.ContainsAny(b, "ABCDEF") {
		return fmt.Errorf("digest %.80q: want 64 lower-case hex digits", b)
	}
	if _, err := hex.Decode(tmp[:], b); err != nil {
		return fmt.Errorf("digest %.80q: want 64 lower-case hex digits", b)
	}
	*d = tmp
	return nil
}

// ParseDigest reads 64 lower-case hex digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	err := d.UnmarshalText([]byte(s))
	return d, err
}
