// Package erase keeps secrets from outliving their use in this process's memory.
//
// It is the runtime's own experiment (runtime/secret) where the program is built with
// GOEXPERIMENT=runtimesecret, as an image's spec asks for with `experiments: [runtimesecret]`. In any other
// build Do only calls its function, and [Works] says so.
package erase

import (
	"runtime"
	"sync/atomic"
	"time"
)

// delay is how long Soon waits for more to be erased with.
const delay = 2 * time.Second

var pending atomic.Bool

// Soon is for after the last use of a secret that Do has allocated: what nothing refers to any more is gone a few
// seconds later. Memory is erased when it is collected, and a program at rest collects every two minutes. However often it
// is called, there is one collection in that time.
func Soon() {
	if Works && pending.CompareAndSwap(false, true) {
		time.AfterFunc(delay, func() {
			pending.Store(false)
			runtime.GC()
		})
	}
}
