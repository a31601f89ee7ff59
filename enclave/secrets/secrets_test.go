package secrets

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

var here = Session{Handshake: [32]byte{1}, Static: [32]byte{2}}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signer(k *ecdsa.PrivateKey) func([]byte) ([]byte, error) {
	return func(m []byte) ([]byte, error) {
		sum := sha256.Sum256(m)
		return ecdsa.SignASN1(rand.Reader, k, sum[:])
	}
}

func message(t testing.TB, k *ecdsa.PrivateKey, s Session, list ...Secret) []byte {
	t.Helper()
	m, err := Message(s, list, rand.Reader, signer(k))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A shelf is where a test's Taker keeps secrets.
type shelf struct {
	kept   map[string]string
	handed []Secret
	err    error
}

func (s *shelf) keep(list []Secret) error {
	if s.err != nil {
		return s.err
	}
	s.kept, s.handed = map[string]string{}, list
	for _, e := range list {
		s.kept[e.Name] = string(e.Value)
	}
	return nil
}

func newTaker(t testing.TB, k *ecdsa.PublicKey, limits map[string]int) (*Taker, *shelf) {
	t.Helper()
	s := new(shelf)
	taker, err := NewTaker(Options{Operator: k, Limits: limits, Keep: s.keep})
	if err != nil {
		t.Fatal(err)
	}
	return taker, s
}

// TestVectors holds both directions to messages that Python wrote.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/secrets.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Operator []byte
		Cases    []struct {
			Handshake, Static, Salt, Signed, Signature, Message string
			Values                                              map[string]string
		}
	}
	if err := json.Unmarshal(data, &v); err != nil || len(v.Cases) < 2 {
		t.Fatal(err, len(v.Cases))
	}
	pub, err := x509.ParsePKIXPublicKey(v.Operator)
	if err != nil {
		t.Fatal(err)
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i, c := range v.Cases {
		s := Session{[32]byte(unhex(c.Handshake)), [32]byte(unhex(c.Static))}
		var list []Secret
		limits, want := map[string]int{}, map[string]string{}
		for name, value := range c.Values {
			b := unhex(value)
			list, limits[name], want[name] = append(list, Secret{name, b}), len(b), string(b)
		}
		m, err := Message(s, list, bytes.NewReader(unhex(c.Salt)), func(signed []byte) ([]byte, error) {
			if got := hex.EncodeToString(signed); got != c.Signed {
				t.Errorf("case %d: signs %s, want %s", i, got, c.Signed)
			}
			return unhex(c.Signature), nil
		})
		if err != nil || hex.EncodeToString(m) != c.Message {
			t.Errorf("case %d: %x, %v, want %s", i, m, err, c.Message)
		}
		taker, shelf := newTaker(t, pub.(*ecdsa.PublicKey), limits)
		if code, err := taker.Take(s, bytes.NewReader(unhex(c.Message))); code != Taken || err != nil || len(shelf.kept) != len(want) {
			t.Errorf("case %d: %v, %v", i, code, err)
		}
		for name := range want {
			if shelf.kept[name] != want[name] {
				t.Errorf("case %d: %s: %q, want %q", i, name, shelf.kept[name], want[name])
			}
		}
	}
}

func TestTake(t *testing.T) {
	k, other := newKey(t), newKey(t)
	limits := map[string]int{"a": 8, "b": 4}
	a, b := Secret{"a", []byte("sesame")}, Secret{"b", []byte("four")}
	good := message(t, k, here, b, a)
	unsigned := frame(here, nil, good[headSize+int(good[headSize-1]):])
	signed := func(contents []byte) []byte {
		sig, err := signer(k)(Signed(here, contents))
		if err != nil {
			t.Fatal(err)
		}
		return frame(here, sig, contents)
	}
	salt := string(make([]byte, saltSize))
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name    string
		message []byte
		want    Code
	}{
		{"empty", nil, Malformed},
		{"a request's head", []byte("\x00\x02{}"), Malformed},
		{"cut in its head", good[:headSize-1], Malformed},
		{"cut in its signature", good[:headSize+3], Malformed},
		{"a signature that is too long", append(append(slices.Clone(good[:headSize-1]), maxSignature+1), make([]byte, maxSignature+1)...), Malformed},
		{"oversize in all", append(slices.Clone(good), make([]byte, 100)...), Oversize},
		{"another session", message(t, k, Session{[32]byte{9}, here.Static}, a, b), OtherSession},
		{"another enclave", message(t, k, Session{here.Handshake, [32]byte{9}}, a, b), OtherEnclave},
		{"replayed under another session's name", func() []byte {
			m := message(t, k, Session{[32]byte{9}, here.Static}, a, b)
			copy(m[2:], here.Handshake[:])
			return m
		}(), BadSignature},
		{"given to another enclave under its name", func() []byte {
			m := message(t, k, Session{here.Handshake, [32]byte{9}}, a, b)
			copy(m[34:], here.Static[:])
			return m
		}(), BadSignature},
		{"unsigned", unsigned, Unsigned},
		{"another key", message(t, other, here, a, b), BadSignature},
		{"a changed value", flipped, BadSignature},
		{"cut in its contents", good[:len(good)-1], BadSignature},
		{"no contents", signed(nil), Malformed},
		{"a byte after the last value", signed([]byte(salt + "\x02\x01a\x00\x00\x00\x01x\x01b\x00\x00\x00\x01x\x00")), Malformed},
		{"more than it counts", signed([]byte(salt + "\x01\x01a\x00\x00\x00\x01x\x01b\x00\x00\x00\x01x")), Malformed},
		{"fewer than it counts", signed([]byte(salt + "\x03\x01a\x00\x00\x00\x01x\x01b\x00\x00\x00\x01x")), Malformed},
		{"a name twice", signed([]byte(salt + "\x02\x01a\x00\x00\x00\x01x\x01a\x00\x00\x00\x01x")), Malformed},
		{"out of order", signed([]byte(salt + "\x02\x01b\x00\x00\x00\x01x\x01a\x00\x00\x00\x01x")), Malformed},
		{"no bytes", signed([]byte(salt + "\x01\x01a\x00\x00\x00\x00")), Malformed},
		{"a path", signed([]byte(salt + "\x01\x04../a\x00\x00\x00\x01x")), Malformed},
		{"a length beyond the end", signed([]byte(salt + "\x01\x01a\xff\xff\xff\xffx")), Malformed},
		{"no secret", signed([]byte(salt + "\x00")), Malformed},
		{"unknown name", message(t, k, here, a, Secret{"c", []byte("x")}), UnknownName},
		{"a value over its limit", message(t, k, here, a, Secret{"b", []byte("fives")}), Oversize},
		{"missing name", message(t, k, here, a), MissingName},
		{"good", good, Taken},
	} {
		taker, shelf := newTaker(t, &k.PublicKey, limits)
		code, err := taker.Take(here, iotest.OneByteReader(bytes.NewReader(c.message)))
		if code != c.want || err != nil {
			t.Errorf("%s: %v, %v, want %v", c.name, code, err, c.want)
		}
		if taker.Waits() != (c.want != Taken) || (shelf.kept != nil) != (c.want == Taken) {
			t.Errorf("%s: waits %v, kept %d", c.name, taker.Waits(), len(shelf.kept))
		}
		if c.want != Taken {
			continue
		}
		if shelf.kept["a"] != "sesame" || shelf.kept["b"] != "four" || len(shelf.kept) != 2 {
			t.Errorf("kept %v", shelf.kept)
		}
		for _, e := range shelf.handed {
			if !bytes.Equal(e.Value, make([]byte, len(e.Value))) {
				t.Errorf("%s was not overwritten", e.Name)
			}
		}
		if code, err := taker.Take(here, bytes.NewReader(good)); code != Again || err != nil {
			t.Errorf("a second time: %v, %v", code, err)
		}
		select {
		case <-taker.Taken():
		default:
			t.Error("nobody is told")
		}
	}
}

// TestTakeBroken: what does not end is not taken, and what cannot be kept is waited for.
func TestTakeBroken(t *testing.T) {
	k := newKey(t)
	taker, shelf := newTaker(t, &k.PublicKey, map[string]int{"a": 8})
	good := message(t, k, here, Secret{"a", []byte("sesame")})
	broken := errors.New("reset")
	for _, err := range []error{broken, io.ErrUnexpectedEOF} {
		if _, got := taker.Take(here, io.MultiReader(bytes.NewReader(good), iotest.ErrReader(err))); !errors.Is(got, err) || !taker.Waits() {
			t.Errorf("%v, waits %v", got, taker.Waits())
		}
	}
	shelf.err = errors.New("no room")
	if code, err := taker.Take(here, bytes.NewReader(good)); code != Failed || err != nil || !taker.Waits() {
		t.Errorf("%v, %v", code, err)
	}
	shelf.err = nil
	if code, err := taker.Take(here, bytes.NewReader(good)); code != Taken || err != nil {
		t.Errorf("%v, %v", code, err)
	}
}

// TestLongestMessage: the longest that a configuration allows is taken, its signature of all 72 bytes included.
func TestLongestMessage(t *testing.T) {
	k := newKey(t)
	longest := func(m []byte) (sig []byte, err error) {
		for len(sig) != maxSignature && err == nil {
			sig, err = signer(k)(m)
		}
		return sig, err
	}
	taker, _ := newTaker(t, &k.PublicKey, map[string]int{"a": MaxValue, "b": 3})
	m, err := Message(here, []Secret{{"a", make([]byte, MaxValue)}, {"b", []byte("abc")}}, rand.Reader, longest)
	if err != nil {
		t.Fatal(err)
	}
	if code, err := taker.Take(here, bytes.NewReader(append(m, 0))); code != Oversize || err != nil {
		t.Errorf("a byte more: %v, %v", code, err)
	}
	if code, err := taker.Take(here, bytes.NewReader(m)); code != Taken || err != nil {
		t.Errorf("%v, %v", code, err)
	}
}

func TestMessageRefuses(t *testing.T) {
	k := newKey(t)
	many := make([]Secret, MaxSecrets+1)
	for i := range many {
		many[i] = Secret{"n" + string(rune('a'+i)), []byte("x")}
	}
	var large []Secret
	for i := range 5 {
		large = append(large, Secret{"n" + string(rune('a'+i)), make([]byte, MaxValue)})
	}
	for want, list := range map[string][]Secret{
		"want 1 to 16":           nil,
		"17, want 1 to 16":       many,
		"a: 0 bytes":             {{"a", nil}},
		"65537 bytes":            {{"a", make([]byte, MaxValue+1)}},
		"327680 bytes in all":    large,
		"a twice":                {{"a", []byte("x")}, {"a", []byte("y")}},
		`secret ".a"`:            {{".a", []byte("x")}},
		`secret "A"`:             {{"A", []byte("x")}},
		`secret ""`:              {{"", []byte("x")}},
		`secret "a/b"`:           {{"a/b", []byte("x")}},
		strings.Repeat("a", 64):  {{strings.Repeat("a", 64), []byte("x")}},
		"signing: no key today":  {{"a", []byte("x")}},
		"a signature of 73 byte": {{"b", []byte("x")}},
	} {
		sign := signer(k)
		if strings.HasPrefix(want, "signing") {
			sign = func([]byte) ([]byte, error) { return nil, errors.New("no key today") }
		} else if strings.HasPrefix(want, "a sig") {
			sign = func([]byte) ([]byte, error) { return make([]byte, maxSignature+1), nil }
		}
		if _, err := Message(here, list, rand.Reader, sign); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := Message(here, []Secret{{"a", []byte("x")}}, strings.NewReader("short"), signer(k)); err == nil {
		t.Error("no salt, no error")
	}
}

func TestNewTakerRefuses(t *testing.T) {
	k, s := newKey(t), new(shelf)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]int{"a": 1}
	for i, o := range []Options{{}, {nil, good, s.keep}, {&p384.PublicKey, good, s.keep}, {&k.PublicKey, good, nil}, {&k.PublicKey, nil, s.keep},
		{&k.PublicKey, map[string]int{"a": 0}, s.keep}, {&k.PublicKey, map[string]int{"a": -1}, s.keep}, {&k.PublicKey, map[string]int{"a": MaxValue + 1}, s.keep}, {&k.PublicKey, map[string]int{"A": 1}, s.keep}} {
		if _, err := NewTaker(o); err == nil {
			t.Errorf("%d: no error", i)
		}
	}
}

func TestAnswers(t *testing.T) {
	seen := map[string]bool{}
	for c := Taken; c <= Failed; c++ {
		err := ReadAnswer(c.Answer())
		var refused *RefusedError
		if c == Taken && err != nil || c != Taken && (!errors.As(err, &refused) || refused.Code != c || !strings.Contains(err.Error(), ": "+c.String()+": ")) {
			t.Errorf("%v: %v", c, err)
		}
		if w := c.String(); seen[w] || w == "other" || Words()[c] != w {
			t.Errorf("code %d is %q", c, w)
		}
		seen[c.String()] = true
	}
	for _, b := range [][]byte{nil, {0xff}, {0xff, 0xff}, {0xff, 0xff, 0, 0}, []byte("\x00\x02{}"), {0, 2, 0}} {
		if err := ReadAnswer(b); !errors.Is(err, ErrNotAsked) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if err := ReadAnswer(Code(11).Answer()); err == nil || errors.Is(err, ErrNotAsked) {
		t.Errorf("a code of tomorrow: %v", err)
	}
}

// FuzzContents: what is read is what Message would have written.
func FuzzContents(f *testing.F) {
	k := newKey(f)
	good := message(f, k, here, Secret{"a", []byte("x")}, Secret{"bc", []byte("yz")})
	f.Add(good[headSize+int(good[headSize-1]):])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, ok := parse(b)
		if !ok {
			return
		}
		m, err := Message(here, list, bytes.NewReader(b), func([]byte) ([]byte, error) { return []byte{0}, nil })
		if err != nil || !bytes.Equal(m[headSize+1:], b) {
			t.Errorf("%x was read, and %x, %v is written", b, m, err)
		}
	})
}

// FuzzTake: nothing that is not signed is taken, whatever its form.
func FuzzTake(f *testing.F) {
	k := newKey(f)
	good := message(f, k, here, Secret{"a", []byte("sesame")})
	f.Add(good)
	f.Add(good[:headSize+9])
	f.Add(frame(here, nil, good[headSize+int(good[headSize-1]):]))
	foreign := newKey(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		taker, _ := newTaker(t, &foreign.PublicKey, map[string]int{"a": 8})
		code, err := taker.Take(here, bytes.NewReader(b))
		if err != nil || code == Taken || code > BadSignature {
			t.Errorf("%v, %v", code, err)
		}
		e, ok := open(b)
		if ok && !bytes.Equal(frame(e.session, e.signature, e.contents), b) {
			t.Errorf("%x has another form", b)
		}
	})
}
