package steps

import (
	"bytes"
	"context"
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tally/internal/testtool"
	"tally/mkimage/tree"
)

// TestMain is three programs: the tests, the init of a step, and, in a build root, the command of a step.
func TestMain(m *testing.M) {
	Main(os.Args)
	if filepath.Base(os.Args[0]) == "helper" {
		if err := help(os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(7)
		}
		return
	}
	os.Exit(m.Run())
}

// help is the command of a step: one word says what it does, and it writes what it found to /build/out.
func help(args []string) error {
	var b bytes.Buffer
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	switch args[0] {
	case "hello":
		say("hello")
	case "environ":
		env := os.Environ()
		slices.Sort(env)
		say("%s", strings.Join(env, "\n"))
	case "who":
		host, _ := os.Hostname()
		wd, _ := os.Getwd()
		var u unix.Utsname
		unix.Uname(&u)
		umask := unix.Umask(0)
		say("uid %d gid %d host %s domain %s dir %s umask %03o ppid %d", os.Getuid(), os.Getgid(), host, unix.ByteSliceToString(u.Domainname[:]), wd, umask, os.Getppid())
		say("%s %s %s %s %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), unix.ByteSliceToString(u.Machine[:]))
	case "uname": // from many threads, and where nothing can be written
		for range 8 {
			go func() {
				for {
					var u unix.Utsname
					unix.Uname(&u)
				}
			}()
		}
		for range 500 {
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil || unix.ByteSliceToString(u.Release[:]) != kernelRelease {
				say("%v %s", err, u.Release)
			}
		}
		_, _, e := unix.Syscall(unix.SYS_UNAME, 8, 0, 0)
		_, _, e2 := unix.Syscall(unix.SYS_UNAME, ^uintptr(0), 0, 0)
		_, _, e3 := unix.Syscall(unix.SYS_UNAME|x32, 0, 0, 0)
		say("%v, %v, %v", e, e2, e3)
	case "escape":
		escape(say)
	case "varies":
		varies(say, args[1])
	case "random":
		var r [8]byte
		rand.Read(r[:])
		say("%x", r)
	case "fail":
		fmt.Println("one\ntwo\x1b[2J\nthree\nfour")
		os.Exit(3)
	case "die":
		unix.Kill(os.Getpid(), unix.SIGKILL)
		time.Sleep(time.Minute)
	case "sleep": // and a child does; the second word is a mark to find both by
		if len(args) == 2 {
			if err := exec.Command("/bin/helper", "sleep", args[1], "child").Start(); err != nil {
				return err
			}
			fmt.Println("sleeping")
		}
		time.Sleep(time.Hour)
	case "orphan": // leaves a process behind that would write later
		cmd := exec.Command("/bin/helper", "later")
		cmd.Start()
		say("done")
	case "later":
		time.Sleep(300 * time.Millisecond)
		say("too late")
	case "fill":
		return fill()
	case "memory":
		if _, err := unix.Mmap(-1, 0, 8<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
			say("mmap: %v", err)
		} else {
			say("mmap: 8 GiB")
		}
	case "tree":
		os.MkdirAll("/build/out/d/empty", 0o700)
		os.WriteFile("/build/out/d/run", []byte("run"), 0o700)
		os.WriteFile("/build/out/text", []byte("text"), 0o640)
		return os.Symlink("d/run", "/build/out/link")
	case "fifo":
		return unix.Mkfifo("/build/out", 0o644)
	case "nothing":
		return nil
	case "list":
		names, err := os.ReadDir(args[1])
		for _, n := range names {
			fi, _ := n.Info()
			say("%s %s %d", n.Name(), fi.Mode(), fi.ModTime().Unix())
		}
		if err != nil {
			return err
		}
	}
	return os.WriteFile("/build/out", b.Bytes(), 0o644)
}

// escape tries what a step must not be able to do, and says what came of it.
func escape(say func(string, ...any)) {
	try := func(what string, err error) {
		if err == nil {
			say("%s: WORKED", what)
		} else {
			say("%s: no", what)
		}
	}
	for _, addr := range strings.Fields(os.Getenv("ADDRESSES")) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		try("connect", err)
	}
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		if i.Flags&net.FlagUp != 0 || i.Flags&net.FlagLoopback == 0 {
			say("interface %s is up", i.Name)
		}
	}
	for _, p := range strings.Fields(os.Getenv("HOSTFILES")) {
		_, err := os.Lstat(p)
		try("host file", err)
	}
	for _, p := range []string{"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/cpuinfo", "/proc/kcore", "/proc/1/root/bin/helper", "/proc/1/exe", "/proc/1/fd/3", "/proc/1/environ", "/proc/1/mem", "/sys/kernel"} {
		f, err := os.OpenFile(p, os.O_RDONLY, 0)
		if err == nil {
			f.Close()
		}
		try("open "+p, err)
	}
	try("chmod /dev/null", os.Chmod("/dev/null", 0o666)) // its own mode: were it to work, nothing would be harmed
	try("chown /dev/null", os.Chown("/dev/null", 0, 0))
	try("replace /dev/null", os.Remove("/dev/null"))
	try("mount", unix.Mount("x", "/tmp", "tmpfs", 0, ""))
	try("unmount", unix.Unmount("/proc", unix.MNT_DETACH))
	try("mknod", unix.Mknod("/tmp/mem", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))))
	try("chroot", unix.Chroot("/tmp"))
	try("set host name", unix.Sethostname([]byte("x")))
	inner := exec.Command("/bin/helper", "nothing") // unshare is refused to a process of several threads anyway
	inner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	try("user namespace", inner.Run())
	try("kill 1", killsInit())
	try("setuid", unix.Setuid(1))
	_, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", "tally-test", 0)
	try("key of the caller", err)
	_, err = unix.RequestKey("user", "tally-test", "", 0)
	try("key of the caller", err)
	try("ptrace 1", unix.PtraceAttach(1))
	pids, _ := filepath.Glob("/proc/[0-9]*")
	say("processes: %d", len(pids))
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	say("mounts: %d", strings.Count(string(mounts), "\n"))
	fds, _ := os.ReadDir("/proc/self/fd")
	say("descriptors: %d", len(fds))
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		for _, key := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp:", "SigIgn", "SigBlk"} {
			if strings.HasPrefix(line, key) {
				say("%s", strings.Join(strings.Fields(line), " "))
			}
		}
	}
}

// killsInit asks whether process 1 can be killed from within: the kernel lets such a signal drop.
func killsInit() error {
	if err := unix.Kill(1, unix.SIGKILL); err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond)
	return fmt.Errorf("still alive")
}

// varies reads one thing that Options.Vary changes.
func varies(say func(string, ...any), what string) {
	switch what {
	case "cpus":
		var set unix.CPUSet
		unix.SchedGetaffinity(0, &set)
		say("%d", set.Count())
	case "addresses":
		maps, _ := os.ReadFile("/proc/self/maps")
		for _, line := range strings.Split(string(maps), "\n") {
			if strings.HasSuffix(line, "[stack]") {
				say("%s", line)
			}
		}
	case "pid":
		say("%d", os.Getpid())
	case "order":
		d, _ := os.Open("/many")
		names, _ := d.Readdirnames(-1)
		say("%s", strings.Join(names, " "))
	}
}

// fill writes until the disk is full.
func fill() error {
	f, err := os.Create("/build/big")
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			if err := errors.Join(f.Close(), os.Remove("/build/big")); err != nil {
				return err
			}
			return os.WriteFile("/build/out", fmt.Appendf(nil, "%v", err), 0o644)
		}
		if n > 200 {
			return fmt.Errorf("no limit")
		}
	}
}

// helperRoot is a build root with this program in it.
func helperRoot(t testing.TB) *tree.Tree {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			testtool.Missing(t, "the test program is not static (CGO_ENABLED=0)")
		}
	}
	if err := Probe(context.Background(), t.TempDir()); err != nil {
		testtool.Missing(t, err.Error())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	root := tree.New()
	for _, e := range []tree.Entry{tree.NewFile("bin/helper", 0o755, data, "test"),
		tree.NewFile("many/a", 0o644, nil, "test"), tree.NewFile("many/b", 0o600, nil, "test"), tree.NewFile("many/c", 0o4755, nil, "test"),
		{Path: "usr/link", Kind: tree.Symlink, Mode: 0o777, Link: "../bin", Source: "test"}, {Path: "bin/second", Kind: tree.HardLink, Link: "bin/helper", Source: "test"},
		{Path: "dev/sda", Kind: tree.BlockDev, Mode: 0o600, Major: 8, Source: "test"}} {
		e.MTime = 2e9
		if err := root.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// giveKey puts a key into this thread's session keyring.
func giveKey(t testing.TB) {
	t.Helper()
	if _, err := unix.AddKey("user", "tally-test", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING); errors.Is(err, unix.ENOSYS) {
		return
	} else if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", "tally-test", 0); err != nil {
		t.Fatalf("the key is not there: %v", err)
	}
}

// inherit makes a descriptor survive exec, as one that a shell left open does.
func inherit(t testing.TB, f *os.File) {
	t.Helper()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
}

const epoch = 1767225600

// helperStep is a step that runs the helper.
func helperStep(args ...string) Step {
	return Step{Name: "test", Command: append([]string{"helper"}, args...), Dir: "build", Epoch: epoch, Timeout: time.Minute, Disk: 256 << 20,
		Outputs: []Output{{Path: "build/out", Target: "srv/out"}}}
}

// text runs a step and returns its output as a string.
func text(t testing.TB, s Step, o Options) string {
	t.Helper()
	r := must(t, s, o)
	e := r.Tree.Get("srv/out")
	if e == nil {
		t.Fatal("no output")
	}
	var b bytes.Buffer
	if err := e.CopyTo(context.Background(), &b, make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func must(t testing.TB, s Step, o Options) *Result {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Log == nil {
		o.Log = func(line string) { t.Log(line) }
	}
	r, err := Run(context.Background(), s, helperRoot(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
