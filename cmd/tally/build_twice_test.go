package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"tally/release/rebuild"
)

// TestTwiceDiffersAsJSON: the answer is one tally.rebuild/v1, and the text says the same.
func TestTwiceDiffersAsJSON(t *testing.T) {
	r, err := rebuild.Compare(t.Context(), []rebuild.Subject{{Name: "vmlinuz", SHA256: sha256Hex([]byte("one"))}}, fstest.MapFS{"vmlinuz": {Data: []byte("other")}})
	if err != nil {
		t.Fatal(err)
	}
	r.Notes = append(r.Notes, "step s: x was made differently")
	for _, asJSON := range []bool{true, false} {
		e := &env{out: new(bytes.Buffer), stdout: io.Discard, stderr: io.Discard, json: asJSON}
		if err := printDifferent(e, r); exitCode(err) != exitDiffers {
			t.Errorf("%v: want exit code %d", err, exitDiffers)
		}
		if !asJSON {
			for _, want := range []string{"DIFFER   vmlinuz\n", "released " + sha256Hex([]byte("one")), "rebuilt  " + sha256Hex([]byte("other")), "step s: x was made differently\n"} {
				if !strings.Contains(e.out.String(), want) {
					t.Errorf("%q does not say %q", e.out.String(), want)
				}
			}
			continue
		}
		var answer struct {
			Schema, Reason string
			Reproduced     *bool
			Subjects       []struct{ Name, Status, Want, Got string }
			Notes          []string
		}
		d := json.NewDecoder(e.out)
		if err := d.Decode(&answer); err != nil || d.More() {
			t.Fatalf("not one object: %v", err)
		}
		if answer.Schema != "tally.rebuild/v1" || answer.Reason != "bytes" || answer.Reproduced == nil || *answer.Reproduced || len(answer.Subjects) != 1 ||
			answer.Subjects[0].Status != "DIFFER" || answer.Subjects[0].Want == answer.Subjects[0].Got || len(answer.Notes) != 1 {
			t.Errorf("%+v", answer)
		}
	}
}
