package fanout

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestEveryWriterTakesEverything(t *testing.T) {
	var a, b, c bytes.Buffer
	w := Writer{&a, &b, &c}
	var want []byte
	for _, n := range []int{0, 1, small - 1, small, small + 1, 10 * small} {
		piece := bytes.Repeat([]byte{byte(n)}, n)
		want = append(want, piece...)
		if k, err := w.Write(piece); k != n || err != nil {
			t.Fatalf("%d of %d bytes, %v", k, n, err)
		}
	}
	for i, got := range []*bytes.Buffer{&a, &b, &c} {
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("writer %d has %d bytes, want %d, or others", i, got.Len(), len(want))
		}
	}
}

// meet is a writer that waits for another one to be called too.
type meet chan struct{}

func (m meet) Write(p []byte) (int, error) {
	select {
	case m <- struct{}{}:
	case <-m:
	}
	return len(p), nil
}

// TestAtTheSameTime: one writer after the other would wait forever.
func TestAtTheSameTime(t *testing.T) {
	m := make(meet)
	if _, err := (Writer{m, m}).Write(make([]byte, small)); err != nil {
		t.Error(err)
	}
}

type fails struct{ err error }

func (f fails) Write(p []byte) (int, error) { return len(p) / 2, f.err }

func TestErrors(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, n := range []int{10, small} {
		for _, c := range []struct {
			w    Writer
			want error
		}{
			{Writer{fails{first}, fails{second}}, first},
			{Writer{io.Discard, fails{second}}, second},
			{Writer{fails{second}, io.Discard}, second},
			{Writer{io.Discard, fails{}}, io.ErrShortWrite},
		} {
			if _, err := c.w.Write(make([]byte, n)); !errors.Is(err, c.want) {
				t.Errorf("%d bytes: error %v, want %v", n, err, c.want)
			}
		}
	}
}
