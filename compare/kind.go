package compare

import (
	"tally/compare/erofs"
)

// What an argument can be.
const (
	kindOutput = "output"
	kindTree   = "tree"
	kindDisk   = "disk"
	kindUKI    = "uki" // any PE file for EFI: a kernel is one, too
	kindCPIO   = "cpio"
	kindErofs  = "erofs"
	kindTar    = "tar"
	kindFile   = "file"
)

// kindOf looks at the magic numbers.
func kindOf(s source) string {
	at := func(off int64, want string) bool {
		b := make([]byte, len(want))
		n, _ := s.ReadAt(b, off)
		return n == len(b) && string(b) == want
	}
	pe := make([]byte, 4)
	s.ReadAt(pe, 60)
	switch {
	case at(512, "EFI PART"), at(4096, "EFI PART"):
		return kindDisk
	case erofs.Is(s):
		return kindErofs
	case at(0, "MZ") && pe[2] == 0 && pe[3] == 0 && at(int64(pe[0])|int64(pe[1])<<8, "PE\x00\x00"):
		return kindUKI
	case at(0, "070701"), at(0, "070702"):
		return kindCPIO
	case at(257, "ustar"):
		return kindTar
	}
	return kindFile
}

// isImage says whether a kind is taken apart where it is found in a directory or an archive.
func isImage(kind string) bool {
	return kind == kindDisk || kind == kindUKI || kind == kindCPIO || kind == kindErofs
}
