// Command guest is the init of a test image: it has sessions with itself over the kernel's vsock and prints how they ended.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"tally/enclave/channel"
	"tally/enclave/channel/vsock"
)

func main() {
	fmt.Printf("vsock: session: %v\n", session())
	fmt.Printf("vsock: truncated: %v\n", truncated())
	fmt.Printf("vsock: nobody: %v\n", nobody())
	fmt.Printf("vsock: closed: %v\n", closed())
	fmt.Println("vsock: done")
	for {
		time.Sleep(time.Hour) // the end of init is a panic
	}
}

// pair is both sides of a session.
func pair(ctx context.Context) (client, server *channel.Conn, err error) {
	l, err := vsock.Listen(vsock.Addr{CID: vsock.AnyCID, Port: 0xffffffff})
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	cfg := channel.Config{Authority: "default", Rand: rand.Reader, Now: time.Now}
	type side struct {
		c   *channel.Conn
		err error
	}
	done := make(chan side, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- side{nil, err}
			return
		}
		key, err := channel.GenerateStatic(rand.Reader)
		if err != nil {
			done <- side{nil, err}
			return
		}
		c, err := channel.Server(ctx, conn, cfg, key, []byte("evidence"))
		done <- side{c, err}
	}()
	port := l.Addr().(vsock.Addr).Port
	conn, err := vsock.Dialer{}.DialContext(ctx, "vsock", vsock.Addr{CID: vsock.LocalCID, Port: port}.String())
	if err != nil {
		return nil, nil, err
	}
	if a, ok := conn.RemoteAddr().(vsock.Addr); !ok || a != (vsock.Addr{CID: vsock.LocalCID, Port: port}) {
		return nil, nil, fmt.Errorf("connected to %v", conn.RemoteAddr())
	}
	client, err = channel.Client(ctx, conn, cfg, func(context.Context, channel.Peer) error { return nil })
	s := <-done
	return client, s.c, errors.Join(err, s.err)
}

// session has a megabyte each way at once, and CLOSE.
func session() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	a, b, err := pair(ctx)
	if err != nil {
		return err
	}
	text := make([]byte, 64*channel.MaxData)
	if _, err := rand.Read(text); err != nil {
		return err
	}
	ends := make(chan error, 4)
	for _, c := range []*channel.Conn{a, b} {
		go func() {
			for at := 0; at < len(text); at += channel.MaxData {
				if err := c.Send(ctx, channel.Record{Type: channel.Data, Stream: 1, Payload: text[at : at+channel.MaxData]}); err != nil {
					ends <- err
					return
				}
			}
			ends <- c.CloseWrite(ctx)
		}()
		go func() {
			var got []byte
			for {
				r, err := c.Receive(ctx)
				if errors.Is(err, io.EOF) && bytes.Equal(got, text) {
					err = nil
				} else if err == nil {
					got = append(got, r.Payload...)
					continue
				}
				ends <- err
				return
			}
		}()
	}
	for range 4 {
		err = errors.Join(err, <-ends)
	}
	return err
}

// truncated is what one side sees of the other's end without CLOSE.
func truncated() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, b, err := pair(ctx)
	if err != nil {
		return err
	}
	a.Abort()
	_, err = b.Receive(ctx)
	if errors.Is(err, channel.ErrTruncated) {
		return nil
	}
	return fmt.Errorf("%w, want %w", err, channel.ErrTruncated)
}

// nobody is where nobody listens.
func nobody() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if c, err := (vsock.Dialer{}).DialContext(ctx, "vsock", "1:77"); err == nil {
		c.Close()
		return errors.New("somebody listens")
	} else if ctx.Err() != nil {
		return err
	}
	return nil
}

// closed is a listener that was closed while it waited.
func closed() error {
	l, err := vsock.Listen(vsock.Addr{CID: vsock.AnyCID, Port: 78})
	if err != nil {
		return err
	}
	time.AfterFunc(200*time.Millisecond, func() { l.Close() })
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("%w, want %w", err, net.ErrClosed)
	}
	return nil
}
