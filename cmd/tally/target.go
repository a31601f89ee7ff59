package main

import (
	"net"
	"net/url"
	"strings"

	"tally/enclave/channel/ws"
	"tally/enclave/client"
	"tally/internal/cli"
)

// targetHelp is what man pages say of TARGET.
const targetHelp = "TARGET is HOST:PORT; the URL of a WebSocket: ws://HOST[:PORT]/PATH, or wss://… where somebody ends TLS in front of the enclave; or\n" +
	"vsock://CID:PORT, from the guest's own host (Linux).\n"

// enclaveTarget reads the command's one argument: a way to dial, and the address.
func enclaveTarget(c *cli.Context) (client.Dialer, string, error) {
	if err := wantArgs(c, "TARGET"); err != nil {
		return nil, "", err
	}
	return parseTarget(c.Args().First())
}

func parseTarget(arg string) (client.Dialer, string, error) {
	bad := usagef("%q: want HOST:PORT, a URL ws://HOST[:PORT]/PATH or wss://…, or vsock://CID:PORT", arg)
	if place, ok := strings.CutPrefix(arg, "vsock://"); ok {
		d, err := vsockDialer(place)
		if err != nil {
			return nil, "", usagef("%q: %v", arg, err)
		}
		return d, place, nil
	}
	if !strings.Contains(arg, "://") {
		if _, _, err := net.SplitHostPort(arg); err != nil {
			return nil, "", bad
		}
		return new(net.Dialer), arg, nil
	}
	u, err := url.Parse(arg)
	// Nothing secret is in a URL: whoever carries the connection reads it.
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, "", bad
	}
	port := u.Port()
	switch {
	case u.Scheme == "ws" && port == "":
		port = "80"
	case u.Scheme == "wss" && port == "":
		port = "443"
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, "", bad
	}
	return ws.Dialer{Scheme: u.Scheme, Path: u.EscapedPath()}, net.JoinHostPort(u.Hostname(), port), nil
}
