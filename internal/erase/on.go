//go:build goexperiment.runtimesecret && linux && (amd64 || arm64)

package erase

import "runtime/secret"

// Works reports whether Do erases.
const Works = true

// Do calls f and erases the registers and the stack that it used. What f allocates is erased when the garbage
// collector finds that nothing refers to it any more: keep f small, and let results that are no secret be copied
// into memory of the caller's. Goroutines that f starts are not covered.
func Do(f func()) { secret.Do(f) }
