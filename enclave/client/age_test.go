package client_test

import (
	"testing"
	"time"
	"unsafe"

	"tally/enclave/client"
)

// TestAge: the longer of both ages counts; a clock that was set back says so.
func TestAge(t *testing.T) {
	then := time.Now()
	// A machine that sleeps: the wall clock goes on, the monotonic one does not (seconds above the 30 bits of nanoseconds, package time).
	slept := then
	*(*uint64)(unsafe.Pointer(&slept)) += 8 * 3600 << 30
	if slept.Sub(then) != 0 || slept.Round(0).Sub(then.Round(0)) != 8*time.Hour {
		t.Fatal("package time has another form of times: make this test anew")
	}
	back := then.Add(time.Minute) // and the wall clock is set back by two
	*(*uint64)(unsafe.Pointer(&back)) -= 120 << 30
	for name, c := range map[string]struct {
		now  time.Time
		want time.Duration
	}{"asleep": {slept, 8 * time.Hour}, "awake": {then.Add(time.Hour), time.Hour}, "at once": {then, 0}, "set back": {back, -time.Minute}} {
		if got := client.Age(then, c.now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
