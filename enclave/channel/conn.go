package channel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/flynn/noise"

	"tally/internal/erase"
)

// Sizes in bytes of the buffered reader of a session: a few small records at once, or the head of a large
// one; and several large ones while they keep coming.
const (
	readBuffer = 4096
	bulkBuffer = 4 * (2 + maxPlain + tagSize) // whole frames, so that none is moved to make room for its end
	quiet      = 16                           // small records in a row that end the keeping of a bulkBuffer
)

var bulkReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bulkBuffer) }}

// A Conn is an open session. One goroutine may send while another receives; several that send, or several
// that receive, take turns.
type Conn struct {
	conn    net.Conn
	peer    Peer
	observe func(RecordEvent) // nil: nobody
	now     func() time.Time

	w struct {
		sync.Mutex
		cs    *noise.CipherState
		count int       // records under this key
		since time.Time // when this key came into use
		limit int
		buf   []byte
		err   error       // sticky: nothing is sent after it
		stall *time.Timer // ends a write without a context that takes longer than most; nil: none
		most  time.Duration
	}
	r struct {
		sync.Mutex
		cs    *noise.CipherState
		in    *bufio.Reader
		small int // records in a row that would have fitted a readBuffer
		count int
		buf   []byte
		err   error // sticky: nothing is received after it
	}
}

func newConn(conn net.Conn, h *half) *Conn {
	c := &Conn{conn: conn, peer: h.peer, observe: h.cfg.Observe, now: h.cfg.Now}
	c.w.cs, c.w.limit, c.w.since = h.out, h.cfg.RekeyAfter, h.cfg.Now()
	c.r.cs, c.r.in = h.re, h.in
	return c
}

// Peer says who is at the other end. Its Payload must not be changed.
func (c *Conn) Peer() Peer { return c.peer }

// Send seals r and writes it. It fails for good when ctx ends in the middle, when the connection does, or
// after a Close record was sent.
func (c *Conn) Send(ctx context.Context, r Record) error {
	if r.Type == rekey {
		return errors.New("channel: rekey is the channel's own record")
	}
	c.w.Lock()
	defer c.w.Unlock()
	if c.w.err != nil {
		return c.w.err
	}
	if err := ctx.Err(); err != nil {
		return err // nothing was written: the session lives
	}
	if r.Type != Close {
		if err := c.refresh(ctx); err != nil {
			return err
		}
	}
	if err := c.seal(ctx, &r); err != nil {
		return err
	}
	if r.Type == Close {
		c.w.err = ErrClosed
	}
	return nil
}

// refresh changes the key when its last place is reached, which is the rekey record's, or it is old.
func (c *Conn) refresh(ctx context.Context) error {
	now := c.now()
	if c.w.count < c.w.limit-1 && now.Sub(c.w.since) < MaxKeyAge {
		return nil
	}
	if err := c.seal(ctx, &Record{Type: rekey}); err != nil {
		return err
	}
	erase.Do(c.w.cs.Rekey)
	erase.Soon()
	c.w.count, c.w.since = 0, now
	c.rekeyed(true)
	return nil
}

// seal encrypts in place and writes one frame. Only a record that this side should never have made leaves
// the direction usable: every other error has used up a nonce.
func (c *Conn) seal(ctx context.Context, r *Record) error {
	buf, err := appendRecord(append(c.w.buf[:0], 0, 0), r)
	if err != nil {
		return err
	}
	c.w.buf = buf // keeps what it has grown to
	took := c.sample(true, c.w.count)
	erase.Do(func() { buf, err = c.w.cs.Encrypt(buf[:2], nil, buf[2:]) })
	if err == nil {
		took()
		c.w.buf = buf
		c.w.count++
		err = c.write(ctx, buf)
	}
	if err != nil {
		c.w.err = err
	}
	return err
}

// limitWrites bounds every write whose context never ends. A timer that is used again costs a record less
// than a context of its own.
func (c *Conn) limitWrites(d time.Duration) {
	c.w.Lock()
	defer c.w.Unlock()
	c.w.most = d
	c.w.stall = time.AfterFunc(d, func() { c.conn.SetWriteDeadline(aLongTimeAgo) })
	c.w.stall.Stop()
}

// write writes one frame; c.w is held.
func (c *Conn) write(ctx context.Context, frame []byte) error {
	switch {
	case ctx.Done() != nil:
		return withContext(ctx, c.conn.SetWriteDeadline, func() error { return truncated(writeFrame(c.conn, frame)) })
	case c.w.stall == nil:
		return truncated(writeFrame(c.conn, frame))
	}
	c.w.stall.Reset(c.w.most)
	err := truncated(writeFrame(c.conn, frame))
	if !c.w.stall.Stop() {
		return ErrStalled // even when the frame just made it: the deadline has passed for good
	}
	return err
}

// Receive returns the next Data, End, Reset or Window record. Its Payload is valid until the next call. The end of a
// session that the peer closed is io.EOF; any other end is ErrTruncated or the reason of the failure, and
// final.
func (c *Conn) Receive(ctx context.Context) (Record, error) {
	c.r.Lock()
	defer c.r.Unlock()
	for c.r.err == nil {
		if err := ctx.Err(); err != nil {
			return Record{}, err
		}
		r, err := c.open(ctx)
		switch {
		case err != nil:
			c.r.err = err
		case r.Type == Close:
			c.r.err = io.EOF
		case r.Type == rekey:
			erase.Do(c.r.cs.Rekey)
			erase.Soon()
			c.r.count = 0
			c.rekeyed(false)
		case r.Type == Pad:
		default:
			return r, nil
		}
	}
	// What was decrypted last lies in the buffer, and the tails of longer records before it.
	clear(c.r.buf[:cap(c.r.buf)])
	c.r.buf = nil
	return Record{}, c.r.err
}

// open reads and decrypts one record.
func (c *Conn) open(ctx context.Context) (r Record, err error) {
	c.fitBuffer()
	sealed, err := c.read(ctx)
	if err != nil {
		return Record{}, err
	}
	if len(sealed) < bucket+tagSize {
		return Record{}, fmt.Errorf("channel: record of %d bytes, want at least %d", len(sealed), bucket+tagSize)
	}
	var plain []byte
	took := c.sample(false, c.r.count)
	erase.Do(func() { plain, err = c.r.cs.Decrypt(c.r.buf[:0], nil, sealed) })
	if err != nil {
		return Record{}, ErrDecrypt // and no retry: noise would allow one
	}
	took()
	if r, err = parseRecord(plain); err != nil {
		return Record{}, err
	}
	if c.r.count++; c.r.count > MaxRecordsPerKey || c.r.count == MaxRecordsPerKey && r.Type != rekey && r.Type != Close {
		return Record{}, fmt.Errorf("channel: the peer sent %d records under one key", c.r.count)
	}
	return r, nil
}

// read is frame until ctx ends. A session's own reads have a context without an end, and cost no allocation.
func (c *Conn) read(ctx context.Context) (sealed []byte, err error) {
	if ctx.Done() == nil {
		return c.frame()
	}
	err = withContext(ctx, c.conn.SetReadDeadline, func() (err error) {
		sealed, err = c.frame()
		return err
	})
	return sealed, err
}

// frame reads one frame, and makes room in c.r.buf for what it decrypts to. The frame stays where the reader has
// it when it fits there, which saves a copy; otherwise it is read into c.r.buf and decrypted in place.
func (c *Conn) frame() ([]byte, error) {
	head, err := c.r.in.Peek(2)
	if err != nil {
		return nil, truncated(err)
	}
	n, err := frameSize(head, maxPlain+tagSize)
	if err != nil {
		return nil, err
	}
	c.r.in.Discard(2)
	c.r.buf = room(c.r.buf, n)
	if n > c.r.in.Size() {
		_, err := io.ReadFull(c.r.in, c.r.buf)
		return c.r.buf, truncated(err)
	}
	sealed, err := c.r.in.Peek(n)
	if err != nil {
		return nil, truncated(err)
	}
	c.r.in.Discard(n) // sealed stays as it is until the next read
	return sealed, nil
}

// fitBuffer changes the reader between records, when it holds nothing, for one that suits what came last. Reading
// costs a system call for each bufferful; an idle session should hold little.
func (c *Conn) fitBuffer() {
	if len(c.r.buf) >= readBuffer {
		c.r.small = 0
	} else {
		c.r.small++
	}
	if c.r.in.Buffered() != 0 {
		return
	}
	switch bulk := c.r.in.Size() == bulkBuffer; {
	case !bulk && c.r.small == 0:
		c.r.in = bulkReaders.Get().(*bufio.Reader)
		c.r.in.Reset(c.conn)
	case bulk && c.r.small >= quiet:
		c.r.in.Reset(nil)
		bulkReaders.Put(c.r.in)
		c.r.in = bufio.NewReaderSize(c.conn, readBuffer)
	}
}

// CloseWrite tells the peer, under encryption, that nothing follows. Receiving goes on.
func (c *Conn) CloseWrite(ctx context.Context) error { return c.Send(ctx, Record{Type: Close}) }

// Close sends CLOSE unless this direction has ended already, and closes the connection. Its error says
// that the peer may not have learned of the end.
func (c *Conn) Close(ctx context.Context) error {
	err := c.CloseWrite(ctx)
	if errors.Is(err, ErrClosed) {
		err = nil
	}
	return errors.Join(err, c.conn.Close())
}

// Abort closes the connection at once, without CLOSE: the peer sees a truncated session.
func (c *Conn) Abort() error { return c.conn.Close() }
