package main

import (
	"testing"
	"time"
)

func TestNsPerOp(t *testing.T) {
	m := nsPerOp.FindSubmatch([]byte("goos: linux\nBenchmarkAudit-2   \t       7\t 152437369.5 ns/op\t131407635 B/op\nPASS\n"))
	if m == nil || string(m[1]) != "152437369.5" {
		t.Errorf("%q", m)
	}
	if m := nsPerOp.FindSubmatch([]byte("PASS\nok tally 1s\n")); m != nil {
		t.Errorf("%q", m)
	}
	limit := target{wall: 100_000 * time.Second / 30_000}
	if limit.judge(measured{wall: 3333 * time.Millisecond}, 0, 0) != "met" || limit.judge(measured{wall: 3334 * time.Millisecond}, 0, 0) != "MISSED" {
		t.Error("30,000 a second are not the target")
	}
}
