package enclave_test

import (
	"runtime"
	"testing"

	"tally/enclave"
	"tally/enclave/attest/insecure"
	"tally/enclave/client"
)

// BenchmarkIdleSessions opens 500 sessions that have each had one exchange, and reports the memory of a
// session, client's and server's sides together, as the Go runtime counts it (heap and stacks).
func BenchmarkIdleSessions(b *testing.B) {
	const n = 500
	for b.Loop() {
		addr, stop := start(b, insecure.Attester{}, enclave.Echo{}, options(b))
		before := inUse()
		sessions := make([]*client.Session, n)
		for i := range sessions {
			sessions[i] = dial(b, addr, config())
			if _, err := sessions[i].Do(b.Context(), []byte("hello")); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(inUse()-before)/n, "B/session")
		for _, s := range sessions {
			s.Close(b.Context())
		}
		if err := stop(); err != nil {
			b.Fatal(err)
		}
	}
}

func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
