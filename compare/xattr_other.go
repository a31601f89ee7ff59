//go:build !linux && !darwin

package compare

// readsXattrs: extended attributes are not read on this system; a report on trees says so.
const readsXattrs = false

func listXattrs(string, []byte) (int, error) { return 0, nil }

func getXattr(string, string, []byte) (int, error) { return 0, nil }
