package release_test

import (
	"bytes"
	"reflect"
	"testing"

	"tally/release"
	rt "tally/release/releasetest"
	"tally/release/sign"
)

func TestRebuildSchema(t *testing.T) {
	parse := func(b []byte) error { _, err := release.ParseRebuild(b); return err }
	checkExample(t, "rebuild", parse, []mutation{
		{`rebuild/v1`, `rebuild/v2`, false},
		{`"result":"differs"`, `"result":"similar"`, false},
		{`"result":"differs"`, `"result":"reproduced"`, false},
		{`"sequence":3`, `"sequence":0`, false},
		{`"statement":"bb`, `"statement":"BB`, false},
		{`"commit":"ab`, `"commit":"`, false},
		{`"verified":"index"`, `"verified":"yes"`, false},
		{`"kind":"file"`, `"kind":""`, false},
		{`"kind":"file"`, `"kind":"zile"`, true},
		{`"status":"DIFFER"`, `"status":"MATCH"`, false},
		{`"status":"DIFFER"`, `"status":"EXTRA"`, false},
		{`"name":"extra"`, `"name":"/extra"`, false},
		{`"name":"extra"`, `"name":"a"`, true},
		{`"name":"reference-values.json"`, `"name":"referencf-values.json"`, true},
		{`"name":"uki.efi","status"`, `"name":"uki.efi","note":"x","status"`, false},
	})
	checkKeys(t, "rebuild.schema.json", reflect.TypeFor[release.Rebuild]())
}

// A rebuild statement is accepted in the one form or not at all.
func FuzzParseRebuild(f *testing.F) {
	w := &rt.World{Out: rt.Out(f), Key: rt.Key(f)}
	bundle := w.Sign(f, w.Key, sign.Options{Sequence: 1})
	for _, change := range []func(*release.Rebuild){nil, differs} {
		data, err := rt.RebuildOf(f, bundle, change).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := release.ParseRebuild(data)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("accepted in another form than its own: %v\n%s", err, again)
		}
	})
}
