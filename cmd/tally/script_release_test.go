package main

import (
	"net"
	"net/http/httptest"
	"strconv"
	"time"

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

// portsCmd is `ports NAME...`: sets each to a TCP port that was free a moment ago.
func portsCmd(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer ln.Close()
		ts.Setenv(name, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
}

// dialCmd is `dial PORT`: waits until something listens there.
func dialCmd(ts *testscript.TestScript, neg bool, args []string) {
	for range 400 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+args[0]); err == nil {
			c.Close()
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	ts.Fatalf("nothing listens on port %s", args[0])
}
