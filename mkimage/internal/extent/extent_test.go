package extent

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScan(t *testing.T) {
	disk := func(size int, set ...int) []byte {
		b := make([]byte, size)
		for _, off := range set {
			b[off] = 1
		}
		return b
	}
	for name, c := range map[string]struct {
		disk []byte
		want []Range
	}{
		"nothing":           {disk(3 * Unit), nil},
		"empty":             {nil, nil},
		"first byte":        {disk(3*Unit, 0), []Range{{0, Unit}}},
		"last byte of unit": {disk(3*Unit, 2*Unit-1), []Range{{Unit, Unit}}},
		"neighbours":        {disk(4*Unit, Unit-1, Unit), []Range{{0, 2 * Unit}}},
		"a hole between":    {disk(4*Unit, 5, 2*Unit), []Range{{0, Unit}, {2 * Unit, Unit}}},
		"short last unit":   {disk(2*Unit+7, 2*Unit+6), []Range{{2 * Unit, 7}}},
		"all":               {bytes.Repeat([]byte{9}, 2*Unit+1), []Range{{0, 2*Unit + 1}}},
	} {
		got, err := Scan(context.Background(), bytes.NewReader(c.disk), int64(len(c.disk)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestScanRefuses(t *testing.T) {
	if _, err := Scan(context.Background(), bytes.NewReader(make([]byte, Unit+3)), 2*Unit); err == nil || !strings.Contains(err.Error(), "disk ends at byte 65539, want 131072") {
		t.Errorf("short disk: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Scan(ctx, bytes.NewReader(make([]byte, Unit)), Unit); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
