package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tally/mkimage/tree"
)

// TestWhatAStepSees holds everything a command can see of where it runs against fixed values: environment,
// user, names, directories, times, processes.
func TestWhatAStepSees(t *testing.T) {
	t.Setenv("SECRET", "of the host")
	s := helperStep("environ")
	s.Env = []string{"TZ=Asia/Tokyo", "X=a=b"}
	want := "HOME=/tmp\nKBUILD_BUILD_HOST=tally\nKBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 2026\nKBUILD_BUILD_USER=tally\nKBUILD_BUILD_VERSION=1\n" +
		"LC_ALL=C.UTF-8\nLOGNAME=root\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nSHELL=/bin/sh\nSOURCE_DATE_EPOCH=1767225600\nTZ=Asia/Tokyo\nUSER=root\nX=a=b\n"
	if d := cmp.Diff(want, text(t, s, Options{})); d != "" {
		t.Error(d)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"who"}, "uid 0 gid 0 host tally domain (none) dir /build umask 022 ppid 1\nLinux tally 5.12.0-tally #1 SMP x86_64\n"},
		{[]string{"uname"}, "bad address, bad address, function not implemented\n"},
		{[]string{"list", "/dev"}, "fd Lrwxrwxrwx - full - null - random - shm - stderr - stdin - stdout - urandom - zero -"},
		{[]string{"list", "/many"}, "a -rw-r--r-- 1767225600\nb -rw------- 1767225600\nc urwxr-xr-x 1767225600\n"},
		{[]string{"list", "/usr"}, "link Lrwxrwxrwx 1767225600\n"},
		{[]string{"list", "/build"}, ""},
	} {
		got := text(t, helperStep(c.args...), Options{})
		if len(c.args) > 1 && c.args[1] == "/dev" { // times and types are the host's
			var names []string
			for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
				names = append(names, strings.Fields(line)[0])
			}
			got = strings.Join(names, " ")
			c.want = "fd full null random shm stderr stdin stdout urandom zero"
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.args, got, c.want)
		}
	}
}

// TestNoEscape lets a command try to reach the network, the host's files and settings, and what would let it
// undo its isolation. The host's side of each attempt is shown to work.
func TestNoEscape(t *testing.T) {
	var addrs []string
	for _, on := range []string{"127.0.0.1:0", "[::1]:0"} {
		ln, err := net.Listen("tcp", on)
		if err != nil {
			t.Log(err)
			continue
		}
		defer ln.Close()
		addrs = append(addrs, ln.Addr().String())
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	leak, err := os.Open(dir) // a descriptor that tally was started with
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	inherit(t, leak)
	runtime.LockOSThread() // which starts the step, and has the key and the ignored signal
	defer runtime.UnlockOSThread()
	giveKey(t)
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	s := helperStep("escape")
	s.Env = []string{"ADDRESSES=" + strings.Join(addrs, " "), "HOSTFILES=" + filepath.Join(dir, "file") + " /etc/passwd /root /home /proc/1/cwd/etc"}
	got := text(t, s, Options{})
	if strings.Contains(got, "WORKED") || strings.Contains(got, "is up") || strings.Count(got, "connect: no") != len(addrs) || len(addrs) == 0 {
		t.Errorf("the command could:\n%s", got)
	}
	// Itself and the init; the root, five devices and /proc.
	for _, want := range []string{"processes: 2", "mounts: 7", "CapPrm: 0000000000000000", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "CapAmb: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "SigIgn: 0000000000000000", "SigBlk: 0000000000000000"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	var fds int // 0, 1, 2, the directory being read, and the poller's
	for _, line := range strings.Split(got, "\n") {
		fmt.Sscanf(line, "descriptors: %d", &fds)
	}
	if fds < 4 || fds > 7 {
		t.Errorf("%d descriptors: the host's are among them", fds)
	}
}

// TestVary wants each thing that Options.Vary changes to be another in a varied run, and the same in two others.
func TestVary(t *testing.T) {
	for _, what := range []string{"addresses", "order", "cpus", "pid"} {
		a, b, varied := text(t, helperStep("varies", what), Options{}), text(t, helperStep("varies", what), Options{}), text(t, helperStep("varies", what), Options{Vary: true})
		if a != b && what != "pid" {
			t.Errorf("%s: %q and %q in two runs", what, a, b)
		}
		if a == varied && !(what == "cpus" && a == "1\n") {
			t.Errorf("%s: %q in a varied run too", what, a)
		}
	}
	// What matters is the same.
	for _, args := range [][]string{{"environ"}, {"who"}, {"list", "/many"}} {
		a, b := text(t, helperStep(args...), Options{}), text(t, helperStep(args...), Options{Vary: true})
		if a != b {
			t.Errorf("%v: %q and, varied, %q", args, a, b)
		}
	}
	if text(t, helperStep("random"), Options{}) == text(t, helperStep("random"), Options{Vary: true}) {
		t.Error("random bytes are equal in two runs")
	}
}

// TestOutputs takes a directory: modes are normalised, times and owners declared.
func TestOutputs(t *testing.T) {
	s := helperStep("tree")
	s.Dir, s.Outputs = "build/out", []Output{{Path: "build/out", Target: "opt/x", UID: 3, GID: 4}, {Path: "build/out/text", Target: "etc/text", Mode: 0o600}}
	r := must(t, s, Options{})
	var got []string
	for _, e := range r.Tree.Entries()[1:] {
		got = append(got, fmt.Sprintf("%s %s %04o %d:%d %d %s%s", e.Kind, e.Path, e.Mode, e.UID, e.GID, e.MTime, e.Link, e.Source))
	}
	want := []string{"file etc/text 0600 0:0 1767225600 step test", "directory opt/x 0755 3:4 1767225600 step test", "directory opt/x/d 0755 3:4 1767225600 step test",
		"directory opt/x/d/empty 0755 3:4 1767225600 step test", "file opt/x/d/run 0755 3:4 1767225600 step test", "symlink opt/x/link 0777 3:4 1767225600 d/runstep test",
		"file opt/x/text 0644 3:4 1767225600 step test"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestFailures(t *testing.T) {
	with := func(s Step, f func(*Step)) Step { f(&s); return s }
	for _, c := range []struct {
		step Step
		want string
	}{
		{helperStep("fail"), `step test: command "helper" ended with exit status 3; its last words: two [2J | three | four`},
		{helperStep("die"), `step test: command "helper" ended with signal SIGKILL; it said nothing`},
		{helperStep("nothing"), `step test: output "build/out": the command has not made it`},
		{helperStep("fifo"), `step test: output "build/out": is a named pipe`},
		{with(helperStep("hello"), func(s *Step) { s.Command[0] = "gcc" }), `step test: command "gcc": not in the build root's PATH`},
		{with(helperStep("hello"), func(s *Step) { s.Command[0] = "/many/a" }), `step test: command "/many/a": permission denied`},
		{with(helperStep("tree"), func(s *Step) { s.Dir, s.Outputs[0].Mode = "build/out", 0o644 }), `only a file can be given a mode`},
		{with(helperStep("hello"), func(s *Step) { s.Disk = 1 << 20 }), `no space left on device`},
		{with(helperStep("sleep", "x"), func(s *Step) { s.Timeout = 300 * time.Millisecond }), `step test: not done after 300ms (timeout)`},
		{with(helperStep("hello"), func(s *Step) { s.Command = nil }), `step test: command: empty`},
		{with(helperStep("hello"), func(s *Step) { s.Outputs = nil }), `step test: outputs: 0, want 1`},
		{with(helperStep("hello"), func(s *Step) { s.Outputs[0].Path = "proc/1" }), `dev, proc and sys are not the step's own`},
		{with(helperStep("hello"), func(s *Step) { s.Outputs[0].Path = "../x" }), `element ".." is not allowed`},
		{with(helperStep("hello"), func(s *Step) { s.Outputs = append(s.Outputs, Output{Path: "x", Target: "srv"}) }), `output target "srv": lies in or around that of "build/out"`},
		{with(helperStep("hello"), func(s *Step) { s.Env = []string{"x"} }), `env "x": want NAME=value`},
		{with(helperStep("hello"), func(s *Step) { s.Timeout = 0 }), `timeout 0s`},
		{with(helperStep("hello"), func(s *Step) { s.Memory = -1 }), `memory -1`},
		{with(helperStep("hello"), func(s *Step) { s.Dir = "dev/x" }), `dir: path "dev/x"`},
	} {
		dir := t.TempDir()
		_, err := Run(context.Background(), c.step, helperRoot(t), Options{Dir: dir, Cache: filepath.Join(dir, "cache")})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want %q", err, c.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "cache")); err == nil {
			t.Errorf("%s: something is in the cache", c.want)
		}
	}
}

// TestLimits shows the two caps from the inside.
func TestLimits(t *testing.T) {
	s := helperStep("fill")
	s.Disk = 48 << 20
	if got := text(t, s, Options{}); !strings.Contains(got, "no space left on device") {
		t.Error(got)
	}
	s = helperStep("memory")
	if got := text(t, s, Options{}); got != "mmap: 8 GiB\n" {
		t.Error(got)
	}
	s.Memory = 4 << 30
	if got := text(t, s, Options{}); got != "mmap: cannot allocate memory\n" {
		t.Error(got)
	}
}

// TestNothingRunsOn leaves processes behind, by success, timeout and an end from outside, and looks for them.
func TestNothingRunsOn(t *testing.T) {
	if got := text(t, helperStep("orphan"), Options{}); got != "done\n" {
		t.Errorf("a process that the command left changed its output: %q", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	mark := fmt.Sprint("mark-", os.Getpid())
	s := helperStep("sleep", mark)
	_, err := Run(ctx, s, helperRoot(t), Options{Dir: t.TempDir(), Log: func(string) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	waitFor(t, mark, 0)
}

// waitFor waits until n processes are helpers with the mark.
func waitFor(t *testing.T, mark string, n int) {
	t.Helper()
	for range 500 {
		if len(helpers(t, mark)) == n {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("processes %v run, want %d", helpers(t, mark), n)
}

// helpers lists the processes of this machine that are a helper with the mark.
func helpers(t *testing.T, mark string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, p := range files {
		if data, _ := os.ReadFile(p); bytes.Contains(data, []byte("helper\x00sleep\x00"+mark+"\x00")) {
			all = append(all, p)
		}
	}
	return all
}

// TestCache runs a step whose output is random: equal outputs come from the cache.
func TestCache(t *testing.T) {
	dir := t.TempDir()
	o := Options{Cache: filepath.Join(dir, "steps")}
	first := must(t, helperStep("random"), o)
	again := must(t, helperStep("random"), o)
	if first.Cached || !again.Cached || first.Digest(epoch) != again.Digest(epoch) || first.Key != again.Key {
		t.Errorf("first %v, again %v", first, again)
	}
	if text(t, helperStep("random"), o) == text(t, helperStep("random"), Options{}) {
		t.Error("a run without a cache gives what is in it")
	}
	other := helperStep("random")
	other.Env = []string{"A=b"}
	if r := must(t, other, o); r.Cached || r.Key == first.Key {
		t.Error("another step has the same key")
	}
	files, err := filepath.Glob(filepath.Join(o.Cache, fmt.Sprintf("%x.tar", first.Key[:])))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[513] ^= 1 // of the contents
	if err := os.WriteFile(files[0], data, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := must(t, helperStep("random"), o); r.Cached {
		t.Error("damaged outputs are taken from the cache")
	}
	if r := must(t, helperStep("random"), o); !r.Cached {
		t.Error("the damaged outputs were not replaced")
	}
}

// TestKey changes each part of a step and of its root.
func TestKey(t *testing.T) {
	root := tree.New()
	key := func(s Step, root *tree.Tree) Key {
		k, err := KeyOf(&s, root)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	seen := []Key{key(helperStep("hello"), root)}
	for _, f := range []func(*Step){func(s *Step) { s.Name = "x" }, func(s *Step) { s.Command[1] = "x" }, func(s *Step) { s.Dir = "x" }, func(s *Step) { s.Env = []string{"A=1"} },
		func(s *Step) { s.Outputs[0].Mode = 1 }, func(s *Step) { s.Outputs[0].Target = "x" }, func(s *Step) { s.Epoch++ }, func(s *Step) { s.Memory++ }, func(s *Step) { s.Disk++ }} {
		s := helperStep("hello")
		f(&s)
		seen = append(seen, key(s, root))
	}
	if err := root.Add(tree.NewFile("a", 0o644, nil, "test")); err != nil {
		t.Fatal(err)
	}
	seen = append(seen, key(helperStep("hello"), root))
	for i, k := range seen {
		if slices.Contains(seen[:i], k) {
			t.Errorf("key %d is an earlier one", i)
		}
	}
	s := helperStep("hello")
	s.Timeout *= 2
	if key(s, tree.New()) != seen[0] {
		t.Error("the time limit is in the key")
	}
}

// TestLines shows what a command says, line by line.
func TestLines(t *testing.T) {
	var got []string
	tk := &talk{log: func(line string) { got = append(got, line) }}
	tk.follow(strings.NewReader("one\n\n  two\t\x1b[31m\r\n" + strings.Repeat("x", 200<<10) + "\n\xff\nlast"))
	want := []string{"one", "  two  [31m", strings.Repeat("x", maxLine), "?", "last"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{want[2], "?", "last"}, tk.last); d != "" {
		t.Error(d)
	}
}
