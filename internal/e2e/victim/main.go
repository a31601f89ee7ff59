// Command victim is an enclave whose memory TestForwardSecrecy reads: it echoes, takes its randomness from
// stdin, and prints its address.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"tally/enclave"
	"tally/enclave/attest/insecure"
)

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println(ln.Addr())
		err = enclave.Serve(context.Background(), ln, insecure.Attester{}, enclave.Echo{}, enclave.Options{
			Authority: "default", Rand: os.Stdin, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Tick: -1, KeySessions: 3})
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
