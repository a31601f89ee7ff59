package main

import (
	"github.com/rogpeppe/go-internal/testscript"

	rt "tally/release/releasetest"
)

// mkoutCmd is `mkout DIR`: a small directory in the form of a build's output, measured.
func mkoutCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkout DIR")
	}
	ts.Check(rt.WriteOut(ts.MkAbs(args[0])))
}
