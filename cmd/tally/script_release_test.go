package main

import (
	"net/http/httptest"

	"github.com/rogpeppe/go-internal/testscript"

	"tally/release/log"
	rt "tally/release/releasetest"
)

// mkoutCmd is `mkout DIR`: a small directory in the form of a build's output, measured.
func mkoutCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkout DIR")
	}
	ts.Check(rt.WriteOut(ts.MkAbs(args[0])))
}

// serveCmd is `serve DIR`: a web server for a published directory, at $URL until the script ends.
func serveCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: serve DIR")
	}
	srv := httptest.NewServer(log.Handler(ts.MkAbs(args[0])))
	ts.Defer(srv.Close)
	ts.Setenv("URL", srv.URL)
}
