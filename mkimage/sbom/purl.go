package sbom

import (
	"encoding/hex"
	"path"
	"strings"
)

// DebianPURL is the package URL (package-url specification, type deb) of a Debian package.
func DebianPURL(name, version, arch, suite string) string {
	return "pkg:deb/debian/" + escape(name) + "@" + escape(version) + "?arch=" + escape(arch) + "&distro=" + escape(suite)
}

// GoPURL is the package URL (type golang, whose names are lower-case) of a Go module.
func GoPURL(path, version string) string {
	parts := strings.Split(strings.ToLower(path), "/")
	for i := range parts {
		parts[i] = escape(parts[i])
	}
	return "pkg:golang/" + strings.Join(parts, "/") + "@" + escape(version)
}

// OCIPURL is the package URL (type oci) of an image by the SHA-256 of its index or manifest; repository is
// HOST/PATH of the registry that has it, or "" for a local layout.
func OCIPURL(name, repository string, digest [32]byte) string {
	u := "pkg:oci/" + escape(strings.ToLower(path.Base(name))) + "@sha256%3A" + hex.EncodeToString(digest[:])
	if repository != "" {
		u += "?repository_url=" + escape(repository)
	}
	return u
}

// escape percent-encodes all but letters, digits, "-._~" and, as the specification has it, the colon.
func escape(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '-', c == '.', c == '_', c == '~', c == ':':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}
