package confer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/flynn/noise"

	"tally/internal/erase"
)

// Messages carries messages that stay whole: one call is one binary WebSocket message of 1 to MaxNoiseMessage bytes.
type Messages interface {
	Read(ctx context.Context) ([]byte, error)
	Write(ctx context.Context, message []byte) error
	Close() error
}

func suite() noise.CipherSuite {
	return noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
}

// A link is an open session, of either side. One goroutine may read while others write.
type link struct {
	m    Messages
	rand io.Reader // of chunk_ids

	send struct {
		sync.Mutex
		cs  *noise.CipherState
		err error // sticky
	}
	receive struct {
		sync.Mutex
		cs    *noise.CipherState
		parts *Assembler
		err   error // sticky
	}
}

// write sends a message in frames. After an error nothing more can be sent: a nonce may have been used up.
func (l *link) write(ctx context.Context, message []byte) error {
	l.send.Lock()
	defer l.send.Unlock()
	if l.send.err != nil {
		return l.send.err
	}
	frames, err := Split(message, l.rand)
	if err != nil {
		return err
	}
	for _, f := range frames {
		var sealed []byte
		plain := f.Marshal()
		erase.Do(func() { sealed, err = l.send.cs.Encrypt(nil, nil, plain) })
		if err == nil {
			err = l.m.Write(ctx, sealed)
		}
		if err != nil {
			l.send.err = fmt.Errorf("%w: %w", ErrEnded, err)
			return l.send.err
		}
	}
	return nil
}

// read returns the next message that is whole. An error is final.
func (l *link) read(ctx context.Context) ([]byte, error) {
	l.receive.Lock()
	defer l.receive.Unlock()
	for l.receive.err == nil {
		message, err := l.next(ctx)
		if message != nil && err == nil {
			return message, nil
		}
		l.receive.err = err
	}
	return nil, l.receive.err
}

// spoil makes err the answer to every read from now on.
func (l *link) spoil(err error) error {
	l.receive.Lock()
	defer l.receive.Unlock()
	if l.receive.err == nil {
		l.receive.err = err
	}
	return l.receive.err
}

// next reads one frame; nil when it does not complete a message.
func (l *link) next(ctx context.Context) ([]byte, error) {
	sealed, err := l.m.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEnded, err)
	}
	var plain []byte
	erase.Do(func() { plain, err = l.receive.cs.Decrypt(nil, nil, sealed) })
	if err != nil {
		return nil, errDecrypt
	}
	f, err := ParseFrame(plain)
	if err != nil {
		return nil, err
	}
	return l.receive.parts.Add(f)
}

var errDecrypt = errors.New("confer: a message that does not decrypt")

// Close closes the connection. The peer cannot tell it from the network's doing.
func (l *link) Close() error { return l.m.Close() }
