package main

import (
	"fmt"
	"time"
)

// gpu times the appraisal of GPU evidence from bytes to verdict. It is a library's work: a process would cost more than
// it does.
func (b *bench) gpu() error {
	for _, r := range []struct {
		what, name string
		t          target
	}{
		{"GPU evidence: an H100, two manifests", "BenchmarkH100", target{wall: 10 * time.Millisecond}},
		{"GPU evidence: eight GPUs, four switches", "BenchmarkMachine$/^plain", target{wall: 60 * time.Millisecond}},
		{"the same with all OCSP responses", "BenchmarkMachine$/^ocsp", target{wall: 60 * time.Millisecond}},
	} {
		wall, err := b.goBench("./enclave/appraise/gpu", r.name)
		if err != nil {
			return err
		}
		m := measured{wall: wall}
		b.rows = append(b.rows, row{what: r.what, ours: fmt.Sprintf("%.6f s", wall.Seconds()), target: r.t.String(), verdict: r.t.judge(m, 0, 0)})
	}
	return nil
}
