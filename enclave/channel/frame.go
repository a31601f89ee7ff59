package channel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// A frame is a 16-bit big-endian length, at least 1, and so many bytes.

// A Carrier is what frames travel in. It stands in the header, so that a session cannot be moved from one
// to another.
type Carrier byte

// The carriers.
const (
	CarrierStream    Carrier = 1 // TCP, TLS, vsock: frames with a 16-bit length
	CarrierWebSocket Carrier = 2 // a binary message is a frame: tally/enclave/channel/ws
)

// carrierOf asks a connection for its carrier; one that does not say is a stream.
func carrierOf(conn net.Conn) Carrier {
	if c, ok := conn.(interface{ Carrier() Carrier }); ok {
		return c.Carrier()
	}
	return CarrierStream
}

// writeFrame writes one frame in one Write; buf has two free bytes in front of the content.
func writeFrame(w io.Writer, buf []byte) error {
	n := len(buf) - 2
	if n < 1 || n > 0xffff {
		return fmt.Errorf("channel: frame of %d bytes", n)
	}
	binary.BigEndian.PutUint16(buf, uint16(n))
	_, err := w.Write(buf)
	return err
}

// readFrame reads one frame of at most limit bytes into buf, which it replaces, and wipes, when it is too small. An end of the
// stream, clean or in the middle, is ErrTruncated: only an authenticated CLOSE ends a session.
func readFrame(r io.Reader, buf []byte, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, truncated(err)
	}
	n, err := frameSize(head[:], limit)
	if err != nil {
		return nil, err
	}
	buf = room(buf, n)
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, truncated(err)
	}
	return buf, nil
}

// frameSize is the length in front of a frame of at most limit bytes.
func frameSize(head []byte, limit int) (int, error) {
	n := int(binary.BigEndian.Uint16(head))
	if n == 0 || n > limit {
		return 0, fmt.Errorf("channel: frame of %d bytes, want 1 to %d", n, limit)
	}
	return n, nil
}

// room returns n bytes: of buf, or new ones when it is too small, and then wipes it.
func room(buf []byte, n int) []byte {
	if cap(buf) < n {
		clear(buf[:cap(buf)])
		buf = make([]byte, n)
	}
	return buf[:n]
}

// truncated makes ErrTruncated of every way in which a carrier ends, in reading or writing.
func truncated(err error) error {
	if err == nil {
		return nil
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, end) {
			return ErrTruncated
		}
	}
	return err
}

// aLongTimeAgo is a deadline that has passed.
var aLongTimeAgo = time.Unix(1, 0)

// withContext runs op, an operation on a connection whose deadline set changes, and makes it end when ctx
// does. The deadline is cleared afterwards, so that one context does not outlive its call.
func withContext(ctx context.Context, set func(time.Time) error, op func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Done() == nil {
		return op()
	}
	fired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		set(aLongTimeAgo)
		close(fired)
	})
	err := op()
	if !stop() {
		<-fired
		set(time.Time{})
		if err != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil
	}
	return err
}
