package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"time"

	"tally/enclave/client"
	"tally/enclave/infer"
	"tally/internal/cli"
)

func proxyCommand(e *env) *cli.Command {
	return &cli.Command{
		Name: "proxy", Usage: "a local OpenAI-compatible endpoint whose server is an attested enclave", ArgsUsage: "TARGET",
		Flags: sessionFlags(
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8181", Usage: "loopback `IP:PORT` to listen on; port 0 takes a free one"}),
		Description: "The release is verified and the enclave appraised as by 'tally connect'; then http://IP:PORT/v1 takes the requests of any OpenAI client,\n" +
			"streaming included, and carries them over attested sessions. Every session that a request needs is appraised anew, against a release that was\n" +
			"verified within the last minute. API keys and all other headers stay here; give a client any key. A request that a browser page could send\n" +
			"(one with an Origin, or with a host name that is not loopback) is refused, and so is every path but /v1/chat/completions, /v1/completions,\n" +
			"/v1/embeddings and /v1/models. A client that hangs up ends the enclave's work. An answer that breaks off is a broken connection, never a\n" +
			"shorter answer. The checks are printed once, before the first request is taken; Ctrl-C ends the proxy (exit 0).\n" + sessionReasons +
			"--json prints tally.connection/v1 (see 'tally connect') with listening: the base URL.\n\n" +
			"   tally proxy enclave.example:8443 --policy policy.yaml --bundle llama.sigstore.json\n" +
			"   OPENAI_BASE_URL=http://127.0.0.1:8181/v1 OPENAI_API_KEY=none node chat.mjs",
		Action: func(c *cli.Context) error { return proxy(c, e) },
	}
}

func proxy(c *cli.Context, e *env) error {
	at, err := netip.ParseAddrPort(c.String("listen"))
	if err != nil || !at.Addr().IsLoopback() {
		return usagef("--listen %q: want IP:PORT of this machine's loopback, such as 127.0.0.1:8181", c.String("listen"))
	}
	a, err := newAttested(c, e)
	if err != nil {
		return err
	}
	s, answer, err := a.first(c.Context)
	if err != nil {
		return err
	}
	t := a.transport(s)
	defer t.CloseIdleConnections()
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		return err
	}
	answer.Listening = "http://" + ln.Addr().String() + "/v1"
	if err := printConnection(e, answer); err != nil {
		return err
	}
	if err := e.flush(); err != nil {
		return err
	}
	return serveProxy(c.Context, ln, proxyHandler(t, e.logf))
}

// serveProxy serves until ctx ends, which is how a proxy is left.
func serveProxy(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog:    log.New(io.Discard, "", 0), // it would quote clients
		BaseContext: func(net.Listener) context.Context { return ctx }}
	gone := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(gone)
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(bye) != nil {
			srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-gone // requests that were running have closed their sessions
	return nil
}

// proxyHandler hands what a local program may ask to t.
func proxyHandler(t http.RoundTripper, logf func(string, ...any)) http.Handler {
	to := &url.URL{Scheme: "http", Host: "enclave"}
	rp := &httputil.ReverseProxy{
		Transport: t, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				panic(http.ErrAbortHandler) // nobody waits
			}
			if errors.Is(err, client.ErrTooLong) {
				proxyError(w, http.StatusRequestEntityTooLarge, string(infer.CodeTooLong), fmt.Sprintf("the body is longer than %d bytes", infer.MaxBody))
				return
			}
			logf("a request found no enclave: %v", err)
			code := "enclave_unavailable"
			if exitCode(verdictOf(err)) >= exitUnverified {
				code = "enclave_not_accepted"
			}
			proxyError(w, http.StatusBadGateway, code, err.Error())
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" || !loopbackHost(r.Host):
			proxyError(w, http.StatusForbidden, "not_local", "this endpoint is for programs of this machine, not for web pages")
		default:
			rp.ServeHTTP(w, r)
		}
	})
}

// loopbackHost guards against a web page whose own name was made to resolve to this machine.
func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// proxyError answers in OpenAI's shape.
func proxyError(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	b, _ := json.Marshal(map[string]any{"error": map[string]any{"message": text, "type": "proxy_error", "param": nil, "code": code}})
	_, _ = w.Write(b) // the client's loss
}
