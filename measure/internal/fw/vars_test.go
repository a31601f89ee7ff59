package fw

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// storeOf makes a variable store of the given records.
func storeOf(records ...[]byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, 72)
	g := ParseGUID(guidNVData)
	copy(b[16:], g[:])
	copy(b[40:], "_FVH")
	le.PutUint16(b[48:], 72)
	g = ParseGUID(guidAuthVariables)
	b = append(b, g[:]...)
	b = append(b, make([]byte, 12)...)
	b[72+20], b[72+21] = storeFormatted, storeHealthy
	for _, r := range records {
		b = append(b, r...)
		for len(b)%4 != 0 {
			b = append(b, 0xff)
		}
	}
	b = append(b, bytes.Repeat([]byte{0xff}, 256)...)
	le.PutUint32(b[72+16:], uint32(len(b)-72))
	le.PutUint64(b[32:], uint64(len(b)))
	return b
}

// record makes one variable.
func record(name string, state byte, data []byte) []byte {
	le := binary.LittleEndian
	h := make([]byte, variableHeader)
	le.PutUint16(h, variableStart)
	h[2] = state
	le.PutUint32(h[4:], 0x27)
	le.PutUint32(h[36:], uint32(2*len(name)+2))
	le.PutUint32(h[40:], uint32(len(data)))
	h[44] = 7
	for _, c := range name + "\x00" {
		h = append(h, byte(c), 0)
	}
	return append(h, data...)
}

func TestReadVariables(t *testing.T) {
	got, err := ReadVariables(storeOf(record("PK", stateAdded, []byte("key")), record("old", 0x3d, []byte{1}), record("db", stateMoving, nil)))
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if v := got[0]; v.Name != "PK" || string(v.Data) != "key" || v.Attributes != 0x27 || v.Vendor[0] != 7 {
		t.Errorf("%+v", v)
	}
	if v := got[1]; v.Name != "db" || len(v.Data) != 0 {
		t.Errorf("%+v", v)
	}
	if got, err := ReadVariables(storeOf()); err != nil || len(got) != 0 {
		t.Errorf("empty store: %+v, %v", got, err)
	}
}

func TestReadVariablesRefusals(t *testing.T) {
	change := func(f func(b []byte)) []byte {
		b := storeOf(record("PK", stateAdded, []byte("key")))
		f(b)
		return b
	}
	le := binary.LittleEndian
	const first = 72 + storeHeader
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":        {nil, "0 bytes, want at least 76"},
		"erased":         {bytes.Repeat([]byte{0xff}, 4096), "no firmware volume of variables"},
		"too long":       {change(func(b []byte) { le.PutUint64(b[32:], 1<<40) }), "volume of 1099511627776 bytes"},
		"header":         {change(func(b []byte) { le.PutUint16(b[48:], 0xfff8) }), "volume header of 65528 bytes"},
		"kind":           {change(func(b []byte) { b[72]++ }), "at byte 0x48: not an authenticated variable store"},
		"not formatted":  {change(func(b []byte) { b[72+20] = 0xff }), "format 0xff"},
		"size":           {change(func(b []byte) { le.PutUint32(b[72+16:], 1<<31) }), "2147483648 bytes, want 28 to"},
		"name odd":       {change(func(b []byte) { le.PutUint32(b[first+36:], 5) }), "byte 0x64: variable name of 5 bytes"},
		"data too long":  {change(func(b []byte) { le.PutUint32(b[first+40:], 1<<30) }), "variable of 6 and 1073741824 bytes"},
		"no NUL":         {change(func(b []byte) { b[first+variableHeader+4] = 'x' }), "want one NUL"},
		"authentication": {change(func(b []byte) { b[first+4] = 0x37 }), "count-based"},
		"twice":          {storeOf(record("PK", stateAdded, nil), record("PK", stateAdded, nil)), `variable "PK" twice`},
	} {
		if got, err := ReadVariables(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", name, got, err, c.want)
		}
	}
}

func FuzzReadVariables(f *testing.F) {
	f.Add(storeOf(record("PK", stateAdded, []byte("key")), record("db", 0x3d, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		vars, err := ReadVariables(b)
		if err != nil {
			return
		}
		total := 0
		for _, v := range vars {
			if v.Name == "" {
				t.Error("accepted a variable without a name")
			}
			total += len(v.Data)
		}
		if total > len(b) {
			t.Errorf("%d bytes of data out of %d", total, len(b))
		}
	})
}

func TestSecureBootDisabled(t *testing.T) {
	for data, want := range map[string]bool{"\x00": true, "\x01": false} {
		if got, err := SecureBootDisabled(Variable{Data: []byte(data)}); err != nil || got != want {
			t.Errorf("%q: %t, %v", data, got, err)
		}
	}
	for _, data := range []string{"", "\x02", "\xff", "\x00\x00", "\x01\x00"} {
		if got, err := SecureBootDisabled(Variable{Data: []byte(data)}); err == nil || !strings.Contains(err.Error(), "want one byte, 0 or 1") {
			t.Errorf("%q: %t, %v", data, got, err)
		}
	}
}
