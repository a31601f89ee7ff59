package channel

import "sync"

// block is how much an inbox takes from the pool at a time, in bytes.
const block = 16 << 10

var blocks = sync.Pool{New: func() any { return new([block]byte) }}

// An inbox is what a stream has received and nobody has read yet. It is held in blocks that go back, wiped,
// to a pool of the process; the windows bound their number.
type inbox struct {
	blocks     []*[block]byte
	head, tail int // read of the first block; written of the last
	n          int
}

func (q *inbox) len() int { return q.n }

func (q *inbox) add(p []byte) {
	q.n += len(p)
	for len(p) > 0 {
		if len(q.blocks) == 0 || q.tail == block {
			q.blocks, q.tail = append(q.blocks, blocks.Get().(*[block]byte)), 0
		}
		n := copy(q.blocks[len(q.blocks)-1][q.tail:], p)
		q.tail += n
		p = p[n:]
	}
}

func (q *inbox) read(p []byte) (n int) {
	for n < len(p) && q.n > 0 {
		end := block
		if len(q.blocks) == 1 {
			end = q.tail
		}
		c := copy(p[n:], q.blocks[0][q.head:end])
		n, q.n, q.head = n+c, q.n-c, q.head+c
		if q.head == end {
			q.drop()
		}
	}
	return n
}

// drop gives the first block back.
func (q *inbox) drop() {
	b := q.blocks[0]
	clear(b[:])
	blocks.Put(b)
	q.head = 0
	if last := copy(q.blocks, q.blocks[1:]); last > 0 {
		q.blocks[last] = nil
		q.blocks = q.blocks[:last]
		return
	}
	q.blocks[0], q.blocks, q.tail = nil, q.blocks[:0], 0
}

// reset empties the queue.
func (q *inbox) reset() {
	for len(q.blocks) > 0 {
		q.drop()
	}
	*q = inbox{}
}
