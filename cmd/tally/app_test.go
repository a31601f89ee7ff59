package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tally/mkimage/lock"
)

// run calls Main in process and returns exit code, stdout and stderr.
func run(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, errb bytes.Buffer
	code := Main(context.Background(), append([]string{"tally"}, args...), strings.NewReader(""), &out, &errb)
	return code, out.String(), errb.String()
}

func TestUnknownCommandIsUsage(t *testing.T) {
	code, out, errs := run(t, "frobnicate")
	if code != exitUsage || out != "" || !strings.Contains(errs, `unknown command "frobnicate"`) {
		t.Fatalf("code %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestUnknownFlagIsUsage(t *testing.T) {
	code, out, _ := run(t, "--nonsense")
	if code != exitUsage || out != "" {
		t.Fatalf("code %d, stdout %q; want %d and nothing", code, out, exitUsage)
	}
}

func TestOnlyTheNamedCommandIsBuilt(t *testing.T) {
	for _, b := range builders() {
		if got := b.build(&env{}).Name; got != b.name {
			t.Errorf("builder %q makes command %q", b.name, got)
		}
		if cs := commands(&env{}, []string{"tally", b.name, "x"}); b.name != "man" && (len(cs) != 1 || cs[0].Name != b.name) {
			t.Errorf("%s: %d commands, want it alone", b.name, len(cs))
		}
	}
	for _, args := range [][]string{nil, {"tally"}, {"tally", "--help"}, {"tally", "frobnicate"}, {"tally", "man", "DIR"}} {
		if cs := commands(&env{}, args); len(cs) != len(builders()) {
			t.Errorf("%q: %d commands, want all", args, len(cs))
		}
	}
}

// TestInterruptedHasNoHint: what a hint says to do is not what went wrong.
func TestInterruptedHasNoHint(t *testing.T) {
	var stderr bytes.Buffer
	err := withHint(fmt.Errorf("image.lock: %w", context.Canceled), "pin what there is now")
	report(&env{stderr: &stderr}, exitFailed, err)
	if got, want := stderr.String(), "tally: error: interrupted\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
}

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{"a/b-1.yaml": "a/b-1.yaml", "-a": "'-a'", "a b": "'a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'", "": "''", "é": "'é'"} {
		if got := shellWord(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestLockCommand: the command that a hint says makes the very lock that was missed, not one beside it.
func TestLockCommand(t *testing.T) {
	for a, want := range map[specArg]string{
		{file: "a.yaml", lock: "image.lock"}:                             "'tally lock a.yaml'",
		{file: "a b.yaml", lock: "image.lock"}:                           "tally lock 'a b.yaml'",
		{file: "d/a.yaml", lock: "d/image.lock"}:                         "'tally lock d/a.yaml'",
		{file: "d/a.yaml", lock: "image.lock"}:                           "'tally lock d/a.yaml -o image.lock'",
		{file: "a.yaml", lock: "a b.lock"}:                               "tally lock a.yaml -o 'a b.lock'",
		{file: "d/a.yaml", variant: "other", lock: "d/image.other.lock"}: "'tally lock d/a.yaml --variant other'",
		{file: "d/a.yaml", variant: "first", lock: "d/image.lock"}:       "'tally lock d/a.yaml --variant first -o d/image.lock'",
	} {
		if got := a.lockCommand(); got != want {
			t.Errorf("%+v: %s, want %s", a, got, want)
		}
	}
}

// TestNoGoTypes: which of our types a document was read into is nothing to its author.
func TestNoGoTypes(t *testing.T) {
	for doc, want := range map[string]string{
		`[]`:                            "image.lock: a JSON array is not what belongs here",
		`{"schema": 1}`:                 "image.lock: schema: a JSON number is not what belongs here",
		`{"packages": [{"sha256": 5}]}`: "image.lock: packages.sha256: a JSON number is not what belongs here",
	} {
		_, err := lock.Parse([]byte(doc), "image.lock")
		if got := plainText(err); got != want {
			t.Errorf("%s: %q, want %q", doc, got, want)
		}
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestUnwritable: an answer that nobody got is no success, whoever makes it and in whatever form.
func TestUnwritable(t *testing.T) {
	for _, line := range []string{"tally help", "tally --version", "tally help measure", "tally measure profiles", "tally measure profiles --json", "tally completion bash"} {
		var talk bytes.Buffer
		code := Main(context.Background(), strings.Fields(line), strings.NewReader(""), fullWriter{}, &talk)
		if code != exitFailed || talk.String() != "tally: error: writing the answer: no space left\n" {
			t.Errorf("%s: exit %d, %q", line, code, talk.String())
		}
	}
}
