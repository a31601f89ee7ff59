package infer

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
)

// TestManyKeys: a body of nothing but keys is refused at the first unknown one, before it costs a multiple of its size.
func TestManyKeys(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`{"model":"x"`)
	for i := 0; b.Len() < MaxBody-20; i++ {
		fmt.Fprintf(&b, `,"%x":1`, i)
	}
	b.WriteString("}")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, no := prepare(PathChat, b.Bytes(), [32]byte{}, 10)
	runtime.ReadMemStats(&after)
	if no != badKey {
		t.Errorf("%v, want %v", no, badKey)
	}
	if cost := after.TotalAlloc - before.TotalAlloc; cost > MaxBody/8 {
		t.Errorf("%d bytes of memory for a body of %d", cost, b.Len())
	}
}
