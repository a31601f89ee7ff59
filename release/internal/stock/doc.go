// Package stock holds what is published against programs that others wrote, built unchanged from their modules: it
// has tests only.
package stock
