package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
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
