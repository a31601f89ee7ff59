//go:build amd64

package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"tally/internal/testtool"
)

// TestMain makes the test binary the engine's program and the engine too.
func TestMain(m *testing.M) {
	if os.Args[0] == EngineName {
		ExecEngine(os.Args)
	}
	if len(os.Args) > 1 && os.Args[1] == "engine-probe" {
		probe(os.Args[2:])
	}
	if len(os.Args) > 1 && os.Args[1] == "engine-litters" {
		litter()
	}
	os.Exit(m.Run())
}

// probe is an engine: it answers each connection with what it can see and do, then ends.
func probe(args []string) {
	ln, err := net.Listen("unix", EngineSocket)
	if err != nil {
		os.Exit(3)
	}
	c, err := ln.Accept()
	if err != nil {
		os.Exit(4)
	}
	json.NewEncoder(c).Encode(observe(args))
	c.Close()
	os.Exit(7)
}

func observe(args []string) map[string]string {
	out := map[string]string{"args": strings.Join(args, "|"), "env": strings.Join(os.Environ(), "|")}
	tell := func(what string, err error) {
		out[what] = "ok"
		if err != nil {
			var no unix.Errno
			if errors.As(err, &no) {
				err = no
			}
			out[what] = err.Error()
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	for _, l := range strings.Split(string(status), "\n") {
		if k, v, _ := strings.Cut(l, ":"); slices.Contains([]string{"Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp"}, k) {
			out[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	names := func(dir string) string {
		all, err := os.ReadDir(dir)
		if err != nil {
			return err.Error()
		}
		var s []string
		for _, e := range all {
			s = append(s, e.Name())
		}
		return strings.Join(s, " ")
	}
	for _, dir := range []string{"/dev", "/sys", "/run", "/tmp"} {
		out[dir] = names(dir)
	}
	dev, _ := os.ReadFile("/proc/self/net/dev")
	for _, l := range strings.Split(string(dev), "\n") {
		if name, _, ok := strings.Cut(l, ":"); ok {
			out["interfaces"] += strings.TrimSpace(name)
		}
	}
	processes := 0
	for _, n := range strings.Fields(names("/proc")) {
		if n[0] >= '0' && n[0] <= '9' {
			processes++
		}
	}
	out["processes"] = fmt.Sprint(processes)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	tell("inet", err)
	unix.Close(fd)
	_, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)
	tell("netlink", err)
	var fs unix.Statfs_t
	if unix.Statfs("/dev/shm", &fs) == nil {
		out["shared"] = fmt.Sprint(fs.Blocks * uint64(fs.Bsize))
		for _, f := range []struct {
			flag int64
			name string
		}{{unix.ST_NOSUID, "nosuid"}, {unix.ST_NODEV, "nodev"}, {unix.ST_NOEXEC, "noexec"}} {
			if fs.Flags&f.flag != 0 {
				out["shared"] += " " + f.name
			}
		}
	}
	tell("loopback", loopback())
	tell("inet socketpair", socketpair(unix.AF_INET))
	tell("unshare user", unix.Unshare(unix.CLONE_NEWUSER))
	_, _, no := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	out["clone user"] = no.Error()
	_, _, no = unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	out["clone3"] = no.Error()
	_, _, no = unix.RawSyscall(unix.SYS_BPF, 0, 0, 0)
	out["bpf"] = no.Error()
	_, _, no = unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0, 0, 0)
	out["ptrace"] = no.Error()
	for _, c := range noPrivilege {
		if _, _, no := unix.RawSyscall6(c.nr, 0, 0, 0, 0, 0, 0); no != unix.EPERM {
			out["not refused"] += fmt.Sprintf("%s: %v; ", c.name, no)
		}
	}
	tell("mount", unix.Mount("x", "/tmp", "tmpfs", 0, ""))
	tell("write to null", os.WriteFile("/dev/null", []byte("x"), 0))
	tell("write to tmp", os.WriteFile("/tmp/x", []byte("x"), 0o600))
	if slices.Contains(args, "secrets") {
		observeSecrets(tell, out)
	}
	tell("write to proc", os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0))
	return out
}

// noPrivilege are system calls that the kernel itself lets anybody make: it is the filter that refuses them.
var noPrivilege = []struct {
	name string
	nr   uintptr
}{
	{"io_uring_setup", unix.SYS_IO_URING_SETUP}, {"io_uring_enter", unix.SYS_IO_URING_ENTER}, {"io_uring_register", unix.SYS_IO_URING_REGISTER},
	{"add_key", unix.SYS_ADD_KEY}, {"request_key", unix.SYS_REQUEST_KEY}, {"keyctl", unix.SYS_KEYCTL}, {"kcmp", unix.SYS_KCMP},
	{"process_vm_readv", unix.SYS_PROCESS_VM_READV}, {"process_vm_writev", unix.SYS_PROCESS_VM_WRITEV}, {"pidfd_open", unix.SYS_PIDFD_OPEN}, {"pidfd_getfd", unix.SYS_PIDFD_GETFD},
	{"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT}, {"modify_ldt", unix.SYS_MODIFY_LDT}, {"adjtimex", unix.SYS_ADJTIMEX}, {"clock_adjtime", unix.SYS_CLOCK_ADJTIME}, {"perf_event_open", unix.SYS_PERF_EVENT_OPEN},
}

// loopback says a word to itself over 127.0.0.1.
func loopback() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	return c.Close()
}

func socketpair(family int) error {
	_, err := unix.Socketpair(family, unix.SOCK_STREAM, 0)
	return err
}

// asRoot runs the test again in mount, network and PID namespaces of real root: devices and other users
// are nothing that a user namespace has.
func asRoot(t *testing.T) bool {
	t.Helper()
	if len(os.Args) > 1 && os.Args[len(os.Args)-1] == "as-root" {
		return true
	}
	words := []string{testtool.Need(t, "unshare"), "-mnpf", "--mount-proc", os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v", "as-root"}
	if os.Geteuid() != 0 {
		words = append([]string{testtool.Need(t, "sudo"), "-n"}, words...)
	}
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil && (strings.Contains(string(out), "unshare: ") || strings.Contains(string(out), "sudo: ") || strings.Contains(string(out), "NOT PERMITTED")) {
		testtool.Missing(t, "root's namespaces: "+string(out))
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// engineWorld makes places for the engine's socket and program, which nobody else sees.
func engineWorld(t *testing.T) (program string) {
	t.Helper()
	for _, dir := range []string{"/run", "/mnt"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			t.Fatalf("NOT PERMITTED: %s: %v", dir, err)
		}
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program = "/mnt/engine"
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// ask reads what the engine that listens now has seen.
func ask(t *testing.T) map[string]string {
	t.Helper()
	var last error
	for range 500 {
		c, err := net.Dial("unix", EngineSocket)
		if last = err; err == nil {
			defer c.Close()
			b, err := io.ReadAll(c)
			var got map[string]string
			if err != nil || json.Unmarshal(b, &got) != nil {
				t.Fatalf("%q, %v", b, err)
			}
			return got
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no engine: %v", last)
	return nil
}

func TestEngineIsKeptApart(t *testing.T) {
	if !asRoot(t) {
		return
	}
	program := engineWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	r := new(Reaper)
	go r.Run(ctx)
	var log bytes.Buffer
	ends := make(chan int, 8)
	done := make(chan error, 1)
	e := &Engine{Command: []string{program, "engine-probe", "one", "two three"}, UID: 990}
	go func() {
		done <- RunEngine(ctx, e, r, program, slog.New(slog.NewTextHandler(&log, nil)), Hooks{Ended: func(n int) { ends <- n }})
	}()
	want := map[string]string{
		"args": "one|two three", "env": strings.Join(engineEnv, "|"),
		"Uid": "990 990 990 990", "Gid": "990 990 990 990", "Groups": "", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2", "/dev": "full null random urandom zero", "/sys": "", "/run": "engine", "/tmp": "",
		"interfaces": "lo", "processes": "1", "inet": "address family not supported by protocol", "netlink": "address family not supported by protocol", "loopback": "address family not supported by protocol", "inet socketpair": "address family not supported by protocol",
		"unshare user": "operation not permitted", "clone user": "operation not permitted", "clone3": "function not implemented",
		"bpf": "operation not permitted", "ptrace": "operation not permitted", "mount": "operation not permitted",
		"write to null": "ok", "write to tmp": "ok", "write to proc": "read-only file system",
	}
	for n := 1; n <= 2; n++ { // and again, when it has ended: nothing is left of the first
		if d := cmp.Diff(want, ask(t)); d != "" {
			t.Errorf("engine %d: -want +got\n%s", n, d)
		}
		if got := <-ends; got != n {
			t.Errorf("end %d was counted as %d", n, got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := log.String(); !strings.Contains(s, `status="exit 7"`) || strings.Contains(s, "three") {
		t.Errorf("log %s", s)
	}
}

// TestEngineEnds: with RunEngine everything that the engine has started ends.
func TestEngineEnds(t *testing.T) {
	if !asRoot(t) {
		return
	}
	engineWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	r := new(Reaper)
	rctx, stop := context.WithCancel(context.Background())
	go r.Run(rctx)
	done := make(chan error, 1)
	e := &Engine{Command: []string{"/bin/sh", "-c", "sleep 987 & sleep 987"}, UID: 990}
	go func() {
		done <- RunEngine(ctx, e, r, "/mnt/engine", slog.New(slog.DiscardHandler), Hooks{})
	}()
	sleepers := func() (n int) {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range all {
			if b, _ := os.ReadFile(f); string(b) == "sleep\x00987\x00" {
				n++
			}
		}
		return n
	}
	for i := 0; sleepers() != 2; i++ {
		if i > 500 {
			t.Fatal("the engine does not start")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for i := 0; sleepers() != 0; i++ {
		if i > 500 {
			t.Fatalf("%d processes outlive the engine", sleepers())
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
}

// TestEngineThatIsNotThere: an engine that does not start is started again, later each time, and the log
// says what is wrong.
func TestEngineThatIsNotThere(t *testing.T) {
	if !asRoot(t) {
		return
	}
	program := engineWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	r := new(Reaper)
	go r.Run(ctx)
	var log bytes.Buffer
	err := RunEngine(ctx, &Engine{Command: []string{"/nonexistent"}, UID: 990}, r, program, slog.New(slog.NewTextHandler(&log, nil)), Hooks{Ended: func(n int) {
		if n == 3 {
			cancel()
		}
	}})
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{`status="exit 125 before it began: engine: no such file or directory" ends=1 "starts again in"=100ms`, `ends=3 "starts again in"=400ms`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in\n%s", want, log.String())
		}
	}
}

// litter is an engine that leaves no place for the next one: a directory where its socket would be, and something in it.
func litter() {
	if err := os.Mkdir(EngineSocket, 0o700); err != nil {
		os.Exit(3)
	}
	if err := os.WriteFile(EngineSocket+"/x", []byte("x"), 0o600); err != nil {
		os.Exit(4)
	}
	os.Exit(7)
}

// TestEngineLitters: whatever an engine leaves where its socket was, the next one starts, and finds nothing of it.
func TestEngineLitters(t *testing.T) {
	if !asRoot(t) {
		return
	}
	program := engineWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := new(Reaper)
	go r.Run(ctx)
	var log bytes.Buffer
	err := RunEngine(ctx, &Engine{Command: []string{program, "engine-litters"}, UID: 990}, r, program, slog.New(slog.NewTextHandler(&log, nil)), Hooks{Ended: func(n int) {
		if n == 3 {
			cancel()
		}
	}})
	if err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), `status="exit 7"`); n != 3 {
		t.Errorf("%d engines found their place empty, want 3:\n%s", n, log.String())
	}
}

// TestExecEngineRefuses: nothing becomes an engine by mistake, and none as root.
func TestExecEngineRefuses(t *testing.T) {
	for _, args := range [][]string{nil, {EngineName}, {EngineName, "990"}, {EngineName, "990", "gpu=false,loopback=false,secrets=false,shared=0"}, {EngineName, "990", "/bin/sh", "-c"}, {EngineName, "990", "gpu=false,loopback=false,secrets=false,shared=-1", "/bin/sh"}, {EngineName, "990", "gpu=false,loopback=false,secrets=false,shared=0 ", "/bin/sh"}, {"sh", "990", "gpu=false,loopback=false,secrets=false,shared=0", "/bin/sh"}, {EngineName, "0", "gpu=false,loopback=false,secrets=false,shared=0", "/bin/sh"}, {EngineName, "-1", "gpu=false,loopback=false,secrets=false,shared=0", "/bin/sh"}, {EngineName, "65534", "gpu=false,loopback=false,secrets=false,shared=0", "/bin/sh"}, {EngineName, "x", "gpu=false,loopback=false,secrets=false,shared=0", "/bin/sh"}} {
		if err := execEngine(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

// TestFilterJumps holds the filter's shape: no jump leads out of it, and every way ends in a verdict.
func TestFilterJumps(t *testing.T) {
	for _, ip := range []bool{false, true} {
		p := filter(ip)
		for i, f := range p {
			if f.Code&7 == unix.BPF_JMP && (i+1+int(f.Jt) >= len(p) || i+1+int(f.Jf) >= len(p)) {
				t.Errorf("instruction %d jumps out", i)
			}
		}
		if last := p[len(p)-1]; last.Code != unix.BPF_RET|unix.BPF_K || len(p) > unix.BPF_MAXINSNS {
			t.Errorf("%d instructions, the last %+v", len(p), last)
		}
	}
}

func TestMakeCgroup(t *testing.T) {
	root := t.TempDir()
	if f, err := makeCgroup(root, 0); f != nil || err != nil {
		t.Errorf("no hierarchy: %v, %v", f, err)
	}
	if _, err := makeCgroup(root, 1); err == nil || !strings.Contains(err.Error(), "memory-mib") {
		t.Errorf("no hierarchy, but a limit: %v", err)
	}
}

func TestEngineConfig(t *testing.T) {
	with := func(engine string) string {
		return strings.Replace(goodConfig, `"network"`, `"engine": `+engine+`, "network"`, 1)
	}
	c, err := ParseConfig([]byte(with(`{"command": ["/usr/bin/llama-server", "-t", "1"], "uid": 990, "memory-mib": 512}`)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&Engine{[]string{"/usr/bin/llama-server", "-t", "1"}, 990, 512, 0, false, false, false}, c.Engine); d != "" {
		t.Error(d)
	}
	for in, want := range map[string]string{
		`{"command": ["/e"]}`:                                             `no key "engine.uid"`,
		`{"uid": 1}`:                                                      `no key "engine.command"`,
		`{"command": [], "uid": 1}`:                                       "engine.command",
		`{"command": "/e", "uid": 1}`:                                     "engine.command",
		`{"command": ["e"], "uid": 1}`:                                    "engine.command",
		`{"command": ["/a/../e"], "uid": 1}`:                              "engine.command",
		`{"command": ["/e", "a\u0000b"], "uid": 1}`:                       "engine.command",
		`{"command": ["/e"], "uid": 0}`:                                   "engine.uid",
		`{"command": ["/e"], "uid": null}`:                                "engine.uid",
		`{"command": ["/e"], "uid": 65534}`:                               "engine.uid",
		`{"command": ["/e"], "uid": 1.5}`:                                 "engine.uid",
		`{"command": ["/e"], "uid": 1, "memory-mib": 0}`:                  "engine.memory-mib",
		`{"command": ["/e"], "uid": 1, "shared-mib": 0}`:                  "engine.shared-mib",
		`{"command": ["/e"], "uid": 1, "loopback": false}`:                "engine.loopback: want true",
		`{"command": ["/e"], "uid": 1, "network": true}`:                  `unknown key "engine.network"`,
		`{"command": ["/e"` + strings.Repeat(`,"a"`, 64) + `], "uid": 1}`: "engine.command",
		`null`: "engine",
	} {
		if c, err := ParseConfig([]byte(with(in))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %+v, %v; want %q", in, c, err, want)
		}
	}
}
