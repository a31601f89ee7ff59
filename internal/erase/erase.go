// Package erase keeps secrets from outliving their use in this process's memory.
//
// It is the runtime's own experiment (runtime/secret) where the program is built with
// GOEXPERIMENT=runtimesecret, as an image's spec asks for with `experiments: [runtimesecret]`. In any other
// build Do only calls its function, and [Works] says so.
package erase
