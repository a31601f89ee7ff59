// Package oracles holds log and witness against the public witness network's own program. It is a module of its own,
// so that it is never a dependency of tally; scripts/test runs it.
package oracles
