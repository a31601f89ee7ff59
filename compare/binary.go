package compare

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"runtime/debug"
	"strings"
)

// maxBinary is the largest program that is looked into, in bytes.
const maxBinary = 512 << 20

// binaryCause looks into programs: how they were built. "" when it cannot tell.
func (c *comparer) binaryCause(a, b source) (string, error) {
	magic := make([]byte, 4)
	if n, _ := a.ReadAt(magic, 0); n < 4 || string(magic) != elf.ELFMAG || a.Size() > maxBinary || b.Size() > maxBinary {
		return "", nil
	}
	x, y := readInfo(a), readInfo(b)
	if x != nil && y != nil {
		if cause := goCause(x, y); cause != "" {
			return cause, nil
		}
		return "Go program of equal build info (sources, paths or build id differ)", nil
	}
	p, q := compilers(a), compilers(b)
	if p != "" && q != "" && p != q {
		return fmt.Sprintf("compiler differs: %s vs %s", p, q), nil
	}
	if p != "" {
		return "program of the same compiler " + p + " (sources, options or paths differ)", nil
	}
	return "", nil
}

// guard turns a panic of the standard library's readers, which are not made for hostile files, into nothing.
func guard(f func()) {
	defer func() { recover() }()
	f()
}

func readInfo(s source) (info *debug.BuildInfo) {
	guard(func() {
		if i, err := buildinfo.Read(s); err == nil {
			info = i
		}
	})
	return info
}

// goCause compares what the go command wrote into two programs.
func goCause(x, y *debug.BuildInfo) string {
	var diffs []string
	say := func(name, a, b string) {
		if a != b {
			diffs = append(diffs, fmt.Sprintf("%s %s vs %s", name, orNone(a), orNone(b)))
		}
	}
	if x.GoVersion != y.GoVersion {
		diffs = append(diffs, x.GoVersion+" vs "+y.GoVersion)
	}
	say("package", x.Path, y.Path)
	say("version of "+x.Main.Path, x.Main.Version, y.Main.Version)
	settings, deps := map[string][2]string{}, map[string][2]string{}
	for i, info := range []*debug.BuildInfo{x, y} {
		for _, s := range info.Settings {
			setSide(settings, s.Key, i, s.Value)
		}
		for _, m := range info.Deps {
			setSide(deps, m.Path, i, m.Version)
		}
	}
	for _, m := range []map[string][2]string{settings, deps} {
		for _, k := range sortedKeys(m) {
			say(k, m[k][0], m[k][1])
		}
	}
	if len(diffs) == 0 {
		return ""
	}
	if len(diffs) > 4 {
		diffs = append(diffs[:4], fmt.Sprintf("%d more", len(diffs)-4))
	}
	return "Go build info differs: " + strings.Join(diffs, "; ")
}

// setSide sets what side 0 or 1 says of key.
func setSide(m map[string][2]string, key string, side int, value string) {
	v := m[key]
	v[side] = value
	m[key] = v
}

func sortedKeys(m map[string][2]string) []string {
	keys := map[string]string{}
	for k := range m {
		keys[k] = ""
	}
	return unionKeys(keys, nil)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// compilers is the .comment section of an ELF file: the names of the compilers, as they put them there.
func compilers(s source) (names string) {
	guard(func() {
		f, err := elf.NewFile(s)
		if err != nil {
			return
		}
		sec := f.Section(".comment")
		if sec == nil || sec.Size > 4096 {
			return
		}
		b, err := sec.Data()
		if err != nil {
			return
		}
		var all []string
		for _, name := range bytes.Split(b, []byte{0}) {
			if len(name) > 0 && printable(name) && !bytes.Contains(name, []byte("\n")) {
				all = append(all, string(name))
			}
		}
		names = strings.Join(all, ", ")
	})
	return names
}
