// Package oracles holds package measure against independent programs of the field. It is a module of its own, so
// that none of them is ever a dependency of tally; scripts/test runs it.
package oracles
