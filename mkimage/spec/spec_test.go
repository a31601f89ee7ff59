package spec

import (
	"encoding/json"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const minimal = `name: minimal
version: 0.1.0
epoch: 1767225600
root:
  - dir: {path: rootfs}
init: {go: {module: ../.., package: ./cmd/init}}
kernel: {debian: {suites: [trixie], package: linux-image-cloud-amd64}}
modules: [dm-verity]
stub: {debian: {suites: [trixie], package: systemd-boot-efi, path: usr/lib/x.stub}}
firmware:
  - {name: ovmf, debian: {suites: [trixie], package: ovmf, path: usr/share/ovmf/OVMF.fd}, vars: as-is}
`

const digits = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"

const digest = "sha256:" + digits

func number(n uint32) *uint32 { return &n }

const everything = `name: all-of.it
version: 1.0~rc1+b_2-x
epoch: 315532800
suites:
  - {name: trixie, archive: vendor, suite: stable, keyring: keys/vendor.asc, priority: 400, valid-until: ignore}
root:
  - debian: {suites: [trixie, trixie-security], components: [main, non-free-firmware], packages: [libc6, g++], base: true, scripts: ignore, pins: [{suite: trixie-security, packages: [libc6]}], omit: [usr/share/man, "usr/share/doc/*/changelog*"]}
  - oci: {image: 'registry.example:5000/team/app@` + digest + `', target: opt/app}
  - oci: {layout: app.oci, digest: '` + digest + `', override: [{path: etc/shadow, mode: 0640, gid: 42}]}
  - dir: {path: ../shared, target: srv/www, uid: 33, gid: 34, override: [{path: x, uid: 0}], replace: true}
  - file: {path: a.xz, decompress: xz, target: etc/a, executable: true}
  - file: {path: b, target: etc/b, mode: 0600, uid: 1, gid: 2}
  - tar: {path: b.tar, target: opt, override: [{path: y, mode: 0}]}
  - go: {module: ., package: ./cmd/enclave, target: sbin/init, mode: 0700, uid: 3, gid: 4, experiments: [runtimesecret]}
  - model: {name: tiny, target: srv/m, files: [{name: a/b.gguf, url: 'https://models.example/b', sha256: ` + digits + `, size: 5}, {name: c, path: model-c}]}
steps:
  - name: hello
    root: {suites: [trixie], packages: [gcc]}
    inputs: [{dir: {path: hello, target: build}}, {file: {path: x.c, target: build/x.c}}, {tar: {path: y.tar}}]
    command: [gcc, -o, hello, hello.c]
    env: [A=b, C=]
    outputs: [{path: build/hello, target: usr/bin/hello, mode: 0755, uid: 1, gid: 2}, {path: build/x, target: opt}, {path: build/m.ko, module: true}]
    memory: 100
config: {path: enclave.json}
devices:
  - {path: dev/null, type: char, major: 1, minor: 3, mode: 0666}
init: {file: {path: init}}
kernel: {debian: {suites: [trixie], package: linux-image-cloud-amd64}}
modules: []
stub: {file: {path: stub.efi}}
firmware:
  - {name: a, file: {path: fw.xz, decompress: xz}, vars: blank}
cmdline: console=ttyS0
platforms: [{name: x, vcpus: [1, 0x2]}]
`

func TestParse(t *testing.T) {
	s, err := Parse([]byte(everything), "image.yaml", "")
	if err != nil {
		t.Fatal(err)
	}
	want := &Spec{Name: "all-of.it", Version: "1.0~rc1+b_2-x", Epoch: 315532800,
		Suites: []Suite{{"trixie", "vendor", "stable", "keys/vendor.asc", 400, "ignore"}},
		Root: []Source{
			{Debian: &Debian{[]string{"trixie", "trixie-security"}, []string{"main", "non-free-firmware"}, []string{"libc6", "g++"}, true, "ignore", []Pin{{"trixie-security", []string{"libc6"}}}, []string{"usr/share/man", "usr/share/doc/*/changelog*"}}},
			{OCI: &OCI{Image: "registry.example:5000/team/app@" + digest, Target: "opt/app"}},
			{OCI: &OCI{Layout: "app.oci", Digest: digest, Override: []Override{{Path: "etc/shadow", Mode: number(0o640), GID: number(42)}}}},
			{Dir: &Dir{Path: "../shared", Target: "srv/www", UID: 33, GID: 34, Override: []Override{{Path: "x", UID: number(0)}}, Replace: true}},
			{File: &File{Path: "a.xz", Decompress: "xz", Target: "etc/a", Executable: true}},
			{File: &File{Path: "b", Target: "etc/b", Mode: number(0o600), UID: 1, GID: 2}},
			{Tar: &Tar{Path: "b.tar", Target: "opt", Override: []Override{{Path: "y", Mode: number(0)}}}},
			{Go: &Go{Module: ".", Package: "./cmd/enclave", Target: "sbin/init", Mode: number(0o700), UID: 3, GID: 4, Experiments: []string{"runtimesecret"}}},
			{Model: &Model{"tiny", "srv/m", []ModelFile{{Name: "a/b.gguf", URL: "https://models.example/b", SHA256: digits, Size: 5}, {Name: "c", Path: "model-c"}}}},
		},
		Steps: []Step{{Name: "hello", Root: Debian{Suites: []string{"trixie"}, Components: []string{"main"}, Packages: []string{"gcc"}},
			Inputs:  []Source{{Dir: &Dir{Path: "hello", Target: "build"}}, {File: &File{Path: "x.c", Target: "build/x.c"}}, {Tar: &Tar{Path: "y.tar"}}},
			Command: []string{"gcc", "-o", "hello", "hello.c"}, Dir: "build", Env: []string{"A=b", "C="},
			Outputs: []Output{{"build/hello", "usr/bin/hello", false, 0o755, 1, 2}, {Path: "build/x", Target: "opt"}, {Path: "build/m.ko", Module: true}}, Timeout: 600, Memory: 100, Disk: 4096}},
		Config:    &Config{Path: "enclave.json"},
		Devices:   []Device{{"dev/null", "char", 1, 3, 0o666}},
		Init:      Init{File: &File{Path: "init"}},
		Kernel:    Kernel{Package{Suites: []string{"trixie"}, Components: []string{"main"}, Package: "linux-image-cloud-amd64"}},
		Modules:   []string{},
		Stub:      Blob{File: &File{Path: "stub.efi"}},
		Firmware:  []Firmware{{Name: "a", File: &File{Path: "fw.xz", Decompress: "xz"}, Vars: "blank"}},
		Cmdline:   "console=ttyS0",
		Platforms: json.RawMessage(`[{"name":"x","vcpus":[1,2]}]`),
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"keys/vendor.asc", "a.xz", "b", "b.tar", "model-c", "x.c", "y.tar", "enclave.json", "init", "stub.efi", "fw.xz"}, s.Files()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"../shared", "hello"}, s.Dirs()); d != "" {
		t.Error(d)
	}
	if all := s.Layouts(); len(all) != 1 || all[0].Layout != "app.oci" {
		t.Errorf("layouts %v", all)
	}
	for _, src := range s.Root[1:3] {
		repository, id := src.OCI.Reference()
		if id.String() != digest || (repository == "registry.example:5000/team/app") != (src.OCI.Image != "") {
			t.Errorf("reference %s, %s", repository, id)
		}
	}
	if ps := s.Programs(); len(ps) != 1 || ps[0].Package != "./cmd/enclave" {
		t.Errorf("programs %v", ps)
	}
}

func TestSuiteNamed(t *testing.T) {
	s, err := Parse([]byte(everything), "image.yaml", "")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Suite{
		"trixie":          {"trixie", "vendor", "stable", "keys/vendor.asc", 400, "ignore"},
		"sid":             {"sid", "debian", "sid", "", 0, "enforce"},
		"trixie-security": {"trixie-security", "debian-security", "trixie-security", "", 0, "enforce"},
	} {
		if got := s.SuiteNamed(name); got != want || got.Debian() == (name == "trixie") {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestPrograms(t *testing.T) {
	s, err := Parse([]byte(strings.Replace(minimal, "  - dir: {path: rootfs}", "  - go: {module: ., package: ./a, target: a}", 1)), "f", "")
	if err != nil {
		t.Fatal(err)
	}
	if ps := s.Programs(); len(ps) != 2 || ps[0].Package != "./cmd/init" || ps[1].Package != "./a" {
		t.Errorf("programs %v: want the init's first", ps)
	}
}

// TestRefusals replaces one line of the minimal spec and wants the place and the expectation named.
func TestRefusals(t *testing.T) {
	for _, c := range refusals {
		text := strings.Replace(minimal, c.old, c.new, 1)
		if text == minimal {
			t.Fatalf("nothing to replace: %q", c.old)
		}
		s, err := Parse([]byte(text), "image.yaml", "")
		if s != nil {
			t.Errorf("%q: a spec beside the error", c.new)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "image.yaml:") {
			t.Errorf("%q: error %v, want one with %q", c.new, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error of several lines: %v", c.new, err)
		}
	}
}

// TestStepRefusals does the same with the lines of a step.
func TestStepRefusals(t *testing.T) {
	const step = `steps:
  - name: hello
    root: {suites: [trixie], packages: [gcc]}
    command: [gcc, hello.c]
    outputs: [{path: build/hello, target: usr/bin/hello}]
`
	for _, c := range []struct{ old, new, want string }{
		{"name: hello", "name: Hello", `image.yaml:13:11: name "Hello": want lower-case`},
		{"steps:\n", "steps:\n  - {name: hello, root: {suites: [sid], packages: [a1]}, command: [x], outputs: [{path: a, target: a}]}\n", `image.yaml:14:11: name "hello": want lower-case letters, digits, dots and hyphens, at most 64, once`},
		{"packages: [gcc]", "packages: []", `image.yaml:14:40: packages: none named`},
		{"packages: [gcc]", "packages: [gcc], omit: [usr]", `image.yaml:14:53: omit: not for a build root`},
		{"packages: [gcc]", "packages: [gcc], scripts: known", `image.yaml:14:56: scripts: not for a build root`},
		{"command: [gcc, hello.c]", "command: []", `image.yaml:15:14: command: 0 words, want 1`},
		{"command: [gcc, hello.c]", "command: ['']", `command: 1 words, want 1 to 4096, the first of them a program`},
		{"command: [gcc, hello.c]", `command: [gcc, "a\0b"]`, `image.yaml:15:20: command: word "a\x00b"`},
		{"command: [gcc, hello.c]", "command: make all", `command: want a list`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    env: [A]", `image.yaml:16:11: env "A": want NAME=value`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    env: [A=1, A=2]", `env "A=2": want NAME=value, each name once`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    dir: ../x", `image.yaml:16:10: dir: path "../x"`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    dir: proc/x", `dir: path "proc/x": dev, proc and sys are the kernel's`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    timeout: 86401", `timeout 86401: want 1 to 86400 seconds`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    memory: -1", `memory -1: want 1 to 262144 MiB`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    disk: 300000", `disk 300000: want 1 to 262144 MiB`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    network: true", `unknown key "network"`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    inputs: [{go: {module: ., package: ./x, target: x}}]", `image.yaml:16:14: input: want exactly one of dir, file, tar`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    inputs: [{}]", `input: want exactly one of dir, file, tar; got 0`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    inputs: [{file: {path: x}}]", `target: missing`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    inputs: [{dir: {path: /etc, target: x}}]", `path "/etc": want a clean path`},
		{"outputs: [{path: build/hello, target: usr/bin/hello}]", "outputs: []", `image.yaml:16:14: outputs: 0, want 1`},
		{"path: build/hello,", "path: /build/hello,", `path: path "/build/hello"`},
		{"path: build/hello,", "path: dev/null,", `path "dev/null": dev, proc and sys are the kernel's`},
		{"target: usr/bin/hello", "target: x, module: true", `image.yaml:16:15: output: want exactly one of target, module: true; got 2`},
		{", target: usr/bin/hello", "", `output: want exactly one of target, module: true; got 0`},
		{"target: usr/bin/hello", "module: true", `path "build/hello": want a file NAME.ko`},
		{"path: build/hello, target: usr/bin/hello", "path: build/a.ko, module: true, mode: 0600", `mode, uid and gid: a module`},
		{"path: build/hello, target: usr/bin/hello", "path: a/m.ko, module: true}, {path: b/m.ko, module: true", `module "m": twice`},
		{"target: usr/bin/hello", "target: ../x", `target: path "../x"`},
		{"target: usr/bin/hello", "target: x, mode: 010000", `mode 010000: want at most 07777`},
		{"target: usr/bin/hello}", "target: usr}, {path: b, target: usr/bin}", `target "usr/bin": lies in or around that of "build/hello"`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    inputs: [{dir: {path: x, uid: 1}}]", `image.yaml:16:14: uid and gid: in a build root all files belong to 0:0`},
		{"command: [gcc, hello.c]", "command: [gcc]\n    inputs: [{tar: {path: x, override: [{path: y, gid: 0}]}}]", `uid and gid: in a build root`},
		{"target: usr/bin/hello", "target: x, gid: 0xffffffff", `uid 0, gid 4294967295: want at most 4294967294`},
		{"target: usr/bin/hello", "target: x, uid: -1", `uid: want a whole number within 32 bits, not negative`},
	} {
		text := strings.Replace(step, c.old, c.new, 1)
		if text == step {
			t.Fatalf("nothing to replace: %q", c.old)
		}
		_, err := Parse([]byte(minimal+text), "image.yaml", "")
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "image.yaml:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want one with %q", c.new, err, c.want)
		}
	}
}

func TestLoad(t *testing.T) {
	s, data, err := Load("../../examples/minimal/"+FileName, "")
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "minimal" || len(data) == 0 || len(s.Programs()) != 2 {
		t.Errorf("got name %q, %d bytes, %d programs", s.Name, len(data), len(s.Programs()))
	}
	if _, _, err := Load(t.TempDir()+"/none.yaml", ""); !os.IsNotExist(err) {
		t.Errorf("absent file: %v", err)
	}
	big := t.TempDir() + "/big.yaml"
	if err := os.WriteFile(big, make([]byte, 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(big, ""); err == nil || !strings.Contains(err.Error(), "want at most 1048576") {
		t.Errorf("file over the cap: %v", err)
	}
}

// TestSchemaNamesEveryKey holds the JSON Schema against the types: a key of one must be in the other.
func TestSchemaNamesEveryKey(t *testing.T) {
	var schema any
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	inSchema, inTypes := map[string]bool{}, map[string]bool{}
	properties(schema, inSchema)
	keys(reflect.TypeFor[Spec](), inTypes)
	if d := cmp.Diff(inTypes, inSchema); d != "" {
		t.Error(d)
	}
}

func properties(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		if props, ok := v["properties"].(map[string]any); ok {
			for k := range props {
				into[k] = true
			}
		}
		for _, x := range v {
			properties(x, into)
		}
	case []any:
		for _, x := range v {
			properties(x, into)
		}
	}
}

func keys(ty reflect.Type, into map[string]bool) {
	switch ty.Kind() {
	case reflect.Pointer, reflect.Slice:
		keys(ty.Elem(), into)
	case reflect.Struct:
		for i := range ty.NumField() {
			name, _, _ := strings.Cut(ty.Field(i).Tag.Get("yaml"), ",")
			if name == "-" {
				continue
			}
			into[name] = true
			keys(ty.Field(i).Type, into)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(everything))
	f.Add([]byte(several))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b, "f", "")
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		if s.Variants != nil {
			t.Errorf("variants %v: of one", s.Variants)
		}
		for _, p := range append(s.Files(), s.Dirs()...) {
			if strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
				t.Errorf("path %q got through", p)
			}
		}
	})
}

// numbered is text once for each number from one to before another, with the number in place of each #.
func numbered(text string, from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		b.WriteString(strings.ReplaceAll(text, "#", strconv.Itoa(i)))
	}
	return b.String()
}

// refusals are changes to the minimal spec that make it wrong.
var refusals = []struct{ old, new, want string }{
	{"name: minimal", "name: Minimal", `image.yaml:1:7: name "Minimal": want lower-case`},
	{"name: minimal", "nmae: minimal", `image.yaml:1:1: unknown key "nmae"`},
	{"name: minimal", "name: a\nname: b", `image.yaml:2:1: key "name" twice (first on line 1)`},
	{"version: 0.1.0", "version: 0.1", `image.yaml:2:10: version: want a string`},
	{"version: 0.1.0", "version: a b", `image.yaml:2:10: version "a b"`},
	{"epoch: 1767225600", "epoch: 0", `image.yaml:3:8: epoch 0: want`},
	{"epoch: 1767225600", "epoch: 9999999999", `image.yaml:3:8: epoch 9999999999: want`},
	{"epoch: 1767225600\n", "", `key "epoch" is missing`},
	{"  - dir: {path: rootfs}", "  []", `image.yaml:5:3: root: 0 sources, want 1 to 256`},
	{"  - dir: {path: rootfs}", "  - dir: {path: a}\n    file: {path: b, target: c}", `image.yaml:5:5: source: want exactly one of debian, oci, dir, file, tar, go, model; got 2`},
	{"dir: {path: rootfs}", "oci: {}", `image.yaml:5:10: oci: want exactly one of image, layout; got 0`},
	{"dir: {path: rootfs}", "oci: {image: a.b/c, layout: d}", `oci: want exactly one of image, layout; got 2`},
	{"dir: {path: rootfs}", "oci: {image: a.b/c}", `image.yaml:5:18: image "a.b/c": want HOST[:PORT]/PATH@sha256:HEX, by digest`},
	{"dir: {path: rootfs}", "oci: {image: 'a.b/c:1@" + digest + "'}", `want HOST[:PORT]/PATH`},
	{"dir: {path: rootfs}", "oci: {image: 'c@" + digest + "'}", `repository "c": want HOST[:PORT]/PATH`},
	{"dir: {path: rootfs}", "oci: {image: 'a.b/c@" + digest + "', digest: '" + digest + "'}", `digest: stands in image already`},
	{"dir: {path: rootfs}", "oci: {layout: d}", `digest "": want sha256:`},
	{"dir: {path: rootfs}", "oci: {layout: d, digest: 'sha512:00'}", `image.yaml:5:30: digest "sha512:00": want sha256:`},
	{"dir: {path: rootfs}", "oci: {layout: /d, digest: '" + digest + "'}", `path "/d": want a clean path`},
	{"dir: {path: rootfs}", "oci: {layout: d, digest: '" + digest + "', target: ../x}", `target: path "../x"`},
	{"dir: {path: rootfs}", "dir: {path: a, override: [{path: b}]}", `image.yaml:5:31: override of "b": want mode, uid or gid`},
	{"dir: {path: rootfs}", "dir: {path: a, override: [{path: ../b, mode: 0}]}", `path "../b": element`},
	{"dir: {path: rootfs}", "dir: {path: a, override: [{path: b, mode: 010000}]}", `image.yaml:5:47: mode 010000: want at most 07777`},
	{"dir: {path: rootfs}", "dir: {path: a, override: [{path: b, uid: 4294967295}]}", `uid 4294967295: want at most 4294967294`},
	{"dir: {path: rootfs}", "dir: {path: a, override: [{path: b, gid: -1}]}", `gid: want a whole number within 32 bits, not negative`},
	{"dir: {path: rootfs}", "dir: {path: a, override: [{path: b, mode: 0}, {path: b, uid: 1}]}", `path "b": twice`},
	{"dir: {path: rootfs}", "tar: {path: a, override: [{path: b}]}", `override of "b"`},
	{"dir: {path: rootfs}", "dir: {path: a, uid: 4294967295}", `uid 4294967295`},
	{"dir: {path: rootfs}", "file: {path: a, target: b, executable: true, mode: 0600}", `executable: mode says it already`},
	{"dir: {path: rootfs}", "file: {path: a, target: b, mode: 0100644}", `mode 0100644: want at most 07777`},
	{"dir: {path: rootfs}", "go: {module: ., package: ./a, target: b, gid: 4294967295}", `gid 4294967295`},
	{"dir: {path: rootfs}", "model: {url: x}", `unknown key "url"`},
	{"dir: {path: rootfs}", "model: {name: M, target: a, files: [{name: b, path: c}]}", `image.yaml:5:19: name "M": want lower-case`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, path: c}]}\n  - model: {name: m, target: d, files: [{name: b, path: c}]}", `name "m": want lower-case letters, digits, dots and hyphens, once`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: []}", `files: 0, want 1 to 1024`},
	{"dir: {path: rootfs}", "model: {name: m, target: 'a b', files: [{name: b, path: c}]}", `target "a b": no spaces`},
	{"dir: {path: rootfs}", "model: {name: m, target: /a, files: [{name: b, path: c}]}", `target: path "/a"`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: ../b, path: c}]}", `path "../b": element`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, path: c}, {name: b, path: d}]}", `name "b": twice`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b}]}", `file: want exactly one of url, path; got 0`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, path: c, size: 1}]}", `sha256 and size: only with url`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, path: /c}]}", `path "/c": want a clean path`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, url: 'ftp://x/y', sha256: '', size: 1}]}", `url "ftp://x/y": want http, https or file`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, url: 'https://u:p@x/y', sha256: '', size: 1}]}", `want http, https or file, without user`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, url: 'file://host/y', sha256: '', size: 1}]}", `want http, https or file`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, url: 'https://x/y', size: 1}]}", `sha256 "": want 64 lower-case hex digits`},
	{"dir: {path: rootfs}", "model: {name: m, target: a, files: [{name: b, url: 'https://x/y', sha256: '" + digits + "'}]}", `size 0: want 1 to`},
	{"  - dir: {path: rootfs}", "  - snap: {path: a}", `unknown key "snap"`},
	{"dir: {path: rootfs}", "dir: {path: /etc}", `image.yaml:5:17: path "/etc": want a clean path`},
	{"dir: {path: rootfs}", "dir: {path: a/../b}", `path "a/../b": want a clean path`},
	{"dir: {path: rootfs}", "dir: {path: 'a\\b'}", `want a clean path`},
	{"dir: {path: rootfs}", "dir: {path: a, target: ../b}", `image.yaml:5:28: target: path "../b"`},
	{"dir: {path: rootfs}", "dir: {path: a, target: /b}", `target: path "/b"`},
	{"dir: {path: rootfs}", "file: {path: a}", `image.yaml:5:11: target: missing`},
	{"dir: {path: rootfs}", "file: {path: a, target: b, decompress: gz}", `decompress "gz": want xz`},
	{"dir: {path: rootfs}", "file: {path: a, target: b, executable: 1}", `executable: want true or false`},
	{"dir: {path: rootfs}", "tar: {path: a, decompress: zst}", `decompress "zst": want xz`},
	{"dir: {path: rootfs}", "go: {module: ., package: cmd/x, target: b}", `package "cmd/x": want a path like ./cmd/init`},
	{"dir: {path: rootfs}", "go: {module: ., package: ./..., target: b}", `package "./...": want a path like ./cmd/init`},
	{"dir: {path: rootfs}", "go: {module: ., package: './a -x', target: b}", `want a path like ./cmd/init`},
	{"dir: {path: rootfs}", "go: {module: ., package: ./a}", `target: missing`},
	{"dir: {path: rootfs}", "debian: {suites: [], packages: [a1]}", `suites: 0 named, want 1`},
	{"dir: {path: rootfs}", "debian: {suites: [sid, sid], packages: [a1]}", `"sid": want a name like trixie or main, once`},
	{"dir: {path: rootfs}", "debian: {suites: [../x], packages: [a1]}", `"../x": want a name`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], components: [], packages: [a1]}", `components: 0 named`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: []}", `packages: none named, and base is not true`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [libc6, libc6]}", `image.yaml:5:47: package "libc6": want a package name, once`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [A]}", `package "A": want a package name`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], scripts: run}", `scripts "run": want known or ignore`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], pins: [{suite: trixie, packages: [a1]}]}", `suite "trixie": want one of sid`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], pins: [{suite: sid, packages: []}]}", `packages: 0 named, want 1`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], pins: [{suite: sid, packages: [a1, a1]}]}", `package "a1": want a package name, pinned once`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], pins: [{suite: sid}]}", `key "packages" is missing`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], omit: [/usr/share]}", `image.yaml:5:52: omit: path "/usr/share"`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], omit: [usr, usr]}", `omit: path "usr": twice`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], omit: ['usr/[a']}", `omit: path "usr/[a": want a pattern as a shell has it`},
	{"dir: {path: rootfs}", "debian: {suites: [sid], packages: [a1], omit: usr}", `omit: want a list`},
	{"root:", "suites: [{name: sid}]\nroot:", `image.yaml:4:17: suite sid: nothing in this spec names it`},
	{"root:", "suites: [{name: trixie}, {name: trixie}]\nroot:", `"trixie": want a name like trixie, once`},
	{"root:", "suites: [{name: trixie, priority: 1000}]\nroot:", `priority 1000: want 1 to 999`},
	{"root:", "suites: [{name: trixie, priority: -1}]\nroot:", `priority -1: want 1 to 999`},
	{"root:", "suites: [{name: trixie, valid-until: never}]\nroot:", `valid-until "never": want enforce or ignore`},
	{"root:", "suites: [{name: trixie, archive: ../x}]\nroot:", `archive "../x": want a name like debian`},
	{"root:", "suites: [{name: trixie, suite: ../x}]\nroot:", `suite "../x": want a name like trixie`},
	{"root:", "suites: [{name: trixie, archive: vendor}]\nroot:", `archive vendor is not Debian's: want a keyring`},
	{"root:", "suites: [{name: trixie, keyring: a.asc}]\nroot:", `keyring: archive debian is Debian's, whose keys tally knows`},
	{"root:", "suites: [{name: trixie, archive: vendor, keyring: /a.asc}]\nroot:", `path "/a.asc": want a clean path`},
	{"root:", "suites: [{name: trixie, mirror: x}]\nroot:", `unknown key "mirror"`},
	{"modules: [dm-verity]", "modules: [dm-verity]\noutputs: [disk.vhd]", `output "disk.vhd": want disk.qcow2 or disk.tar.gz, once`},
	{"modules: [dm-verity]", "modules: [dm-verity]\noutputs: [disk.qcow2, disk.qcow2]", `output "disk.qcow2": want`},
	{"init: {go: {module: ../.., package: ./cmd/init}}", "init: {file: {path: x, replace: true}}", `only for a file of the root`},
	{"package: ./cmd/init}", "package: ./cmd/init, experiments: [arenas]}", `experiment "arenas": want some of ["runtimesecret"], each once`},
	{"package: ./cmd/init}", "package: ./cmd/init, experiments: [runtimesecret, runtimesecret]}", `experiment "runtimesecret": want some of`},
	{"dir: {path: rootfs}", "go: {module: ../.., package: ./cmd/init, target: b, experiments: [runtimesecret]}", `package "./cmd/init" stands there with other experiments`},
	{"package: ./cmd/init}", "package: ./cmd/init, replace: true}", `the initrd's init is always /init`},
	{"dir: {path: rootfs}", "dir: {path: a, replace: 1}", `replace: want true or false`},
	{"modules: [dm-verity]", "config: {}\nmodules: []", `key "path" is missing`},
	{"modules: [dm-verity]", "config: {path: /etc/x}\nmodules: []", `image.yaml:8:16: path "/etc/x": want a clean path`},
	{"modules: [dm-verity]", "modules: [a/b]", `image.yaml:8:11: module "a/b": want a module name`},
	{"modules: [dm-verity]", "modules: [a, a]", `module "a": want a module name, once`},
	{"modules: [dm-verity]", "devices: [{path: x, type: pipe, major: 1, minor: 1, mode: 0600}]\nmodules: []", `type "pipe": want char or block`},
	{"modules: [dm-verity]", "devices: [{path: x, type: char, major: 4096, minor: 1, mode: 0600}]\nmodules: []", `device 4096:1: want at most`},
	{"modules: [dm-verity]", "devices: [{path: x, type: char, major: 1, minor: 1, mode: 010000}]\nmodules: []", `want at most 07777`},
	{"modules: [dm-verity]", "devices: [{path: ../x, type: char, major: 1, minor: 1, mode: 0600}]\nmodules: []", `path "../x"`},
	{"init: {go: {module: ../.., package: ./cmd/init}}", "init: {}", `init: want exactly one of go, file; got 0`},
	{"package: ./cmd/init}", "package: ./cmd/init, target: x}", `target, mode, uid, gid and replace: the initrd's init is always /init`},
	{"init: {go: {module: ../.., package: ./cmd/init}}", "init: {file: {path: x, target: y}}", `target, executable, mode, uid, gid and replace: only for a file of the root`},
	{"package: linux-image-cloud-amd64", "package: linux-image-cloud-amd64, path: boot/vmlinuz", `path: the kernel is found by itself`},
	{"package: linux-image-cloud-amd64", "package: 'a b'", `package "a b": want a package name`},
	{"package: systemd-boot-efi, path: usr/lib/x.stub", "package: systemd-boot-efi", `image.yaml:9:16: target: missing`},
	{"vars: as-is", "vars: none", `vars "none": want as-is or blank`},
	{"name: ovmf,", "name: ../x,", `name "../x": want lower-case`},
	{"vars: as-is}", "vars: as-is}\n  - {name: ovmf, file: {path: x}, vars: as-is}", `name "ovmf": want lower-case letters, digits, dots and hyphens, once`},
	{"vars: as-is}", "vars: as-is, file: {path: x}}", `firmware.0: want exactly one of debian, file; got 2`},
	{"modules: [dm-verity]", "modules: []\nvariants: []", `variants: 0, want 1 to 16`},
	{"modules: [dm-verity]", "modules: []\nvariants: [{name: A}]", `image.yaml:9:19: variant "A": want lower-case`},
	{"modules: [dm-verity]", "modules: []\nvariants: [{name: a.b}]", `variant "a.b": want lower-case`},
	{"modules: [dm-verity]", "modules: []\nvariants: [{name: a}, {name: b}, {name: a}]", `image.yaml:9:41: variant "a": twice`},
	{"modules: [dm-verity]", "modules: []\nvariants: [{name: a}, {name: b, config: {path: /etc/x}}]", `image.yaml:9:48: path "/etc/x": want a clean path`},
	{"modules: [dm-verity]", "modules: []\nvariants: [{name: a}, {name: b, modules: []}]", `unknown key "modules", want one of name, config`},
	{"modules: [dm-verity]", "modules: []\nvariants: [{name: a}]\nsuites: [{name: tricksie}]", `image.yaml:10:17: suite tricksie: nothing in this spec names it`},
	{"dir: {path: rootfs}", "dir: {path: rootfs}\n    only: [a]", `image.yaml:6:11: only: this spec has no variants`},
	{"dir: {path: rootfs}", "dir: {path: rootfs}\n    only: []\nvariants: [{name: a}]", `image.yaml:6:11: only: names no variant`},
	{"dir: {path: rootfs}", "dir: {path: rootfs}\n    only: [a, a]\nvariants: [{name: a}]", `image.yaml:6:15: only: variant "a": want some of a, each once`},
	{"dir: {path: rootfs}", "dir: {path: rootfs}\n    only: [a]\nvariants: [{name: a}, {name: b}]", `image.yaml:5:3: root: 0 sources, want 1 to 256`},
	{"dir: {path: rootfs}", "dir: {path: rootfs}" + strings.Repeat("\n  - {only: [a], dir: {path: x}}\n  - {only: [b], dir: {path: x}}", 128) + "\nvariants: [{name: a}, {name: b}]", `image.yaml:5:3: root: 257, want at most 256 of all variants together`},
	{"dir: {path: rootfs}", "debian: {suites: [trixie" + numbered(", s#", 0, 130) + "], packages: [x]}\n    only: [a]\n  - only: [b]\n    debian: {suites: [trixie" + numbered(", s#", 130, 260) + "], packages: [x]}\nvariants: [{name: a}, {name: b}]\nsuites:" + numbered("\n  - {name: s#}", 0, 260), `suites: 260, want at most 256 of all variants together`},
	{"modules: [dm-verity]", "modules: []\nvariants: [{name: a}, {name: b}]\nsteps:" + numbered("\n  - {only: [a], name: s#, root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/x, target: x#}]}\n  - {only: [b], name: s#, root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/x, target: x#}]}", 0, 33), `image.yaml:11:3: steps: 66, want at most 64 of all variants together`},
	// A mistake in a variant that was not asked for, where it stands in the document.
	{"dir: {path: rootfs}", "dir: {path: rootfs}\n  - dir: {path: a}\n    only: [a]\n  - dir: {path: /b}\n    only: [b]\nvariants: [{name: a}, {name: b}]", `image.yaml:8:17: path "/b": want a clean path`},
	{"modules: [dm-verity]", "modules: []\nsteps: [{name: x, only: [], root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/x, target: x}]}]\nvariants: [{name: a}]", `image.yaml:9:25: only: names no variant`},
	{"modules: [dm-verity]", "modules: []\nsteps: [{name: x, inputs: [{only: [a], dir: {path: a}}], root: {suites: [trixie], packages: [gcc]}, command: [x], outputs: [{path: build/x, target: x}]}]\nvariants: [{name: a}]", `image.yaml:9:35: only: not for an input`},
	{"name: minimal", "name: a23456789-123456789-123456789-123456789-123456789-123456789-123\nvariants: [{name: a}, {name: b}]", `image.yaml:1:7: name "a23456789-123456789-123456789-123456789-123456789-123456789-123-b": want lower-case`},
}
