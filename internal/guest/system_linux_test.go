package guest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tally/internal/testtool"
)

// inNamespace runs the test again, alone, in user, mount, network and PID namespaces of its own, where it is
// root of nothing else, and says whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv("TALLY_TEST_NAMESPACE") != "" {
		return true
	}
	tool := testtool.Need(t, "unshare")
	cmd := exec.Command(tool, "-rmnpf", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "TALLY_TEST_NAMESPACE=1")
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "unshare: ") {
		testtool.Missing(t, "namespaces of its own: "+string(out))
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// The kernel and the net package, which asks it in its own way, are the oracle for the messages.
func TestConfigureNetwork(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if err := configureNetwork(nil, 0); err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil || lo.Flags&net.FlagUp == 0 {
		t.Fatalf("%+v, %v", lo, err)
	}
	c, err := openNetlink()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	// No other kind of interface is sure to exist on a build machine.
	n := &Network{Interface: "lo", Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2")}
	if err := c.configure(n, 0); err != nil {
		t.Fatal(err)
	}
	addrs, err := lo.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	found := ""
	for _, a := range addrs {
		found += a.String() + " "
	}
	if !strings.Contains(found, "10.0.2.15/24 ") {
		t.Errorf("addresses %s", found)
	}
	routes, err := os.ReadFile("/proc/self/net/route")
	if err != nil {
		t.Fatal(err)
	}
	// Interface, destination 0.0.0.0, gateway 10.0.2.2 in the file's byte order, flags up and gateway.
	if !strings.Contains(string(routes), "lo\t00000000\t0202000A\t0003\t") {
		t.Errorf("routes:\n%s", routes)
	}
	if err := c.configure(n, 0); !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), "address 10.0.2.15/24") {
		t.Errorf("address twice: %v", err)
	}
	n.Interface = "eth7"
	if err := configureNetwork(n, 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "interface eth7") {
		t.Errorf("no such interface: %v", err)
	}
}

func TestMount(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	m := mount{path: dir, fs: "tmpfs", flags: noExec, data: "mode=0755,size=16m,nr_inodes=4k"}
	if there, err := isMounted(dir); there || err != nil {
		t.Fatalf("before: %v, %v", there, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	for _, pass := range []string{"mount", "remount"} {
		if err := m.do(); err != nil {
			t.Fatalf("%s: %v", pass, err)
		}
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			t.Fatal(err)
		}
		if guarded := int64(unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC); s.Flags&guarded != guarded || s.Type != unix.TMPFS_MAGIC {
			t.Errorf("%s: flags 0x%x, type 0x%x", pass, s.Flags, s.Type)
		}
		// A mount left by somebody else, without the flags, gets them.
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	absent := mount{path: dir + "/x", fs: "tmpfs"}
	if err := absent.do(); err == nil {
		t.Error("no directory: no error")
	}
	absent.optional = true
	if err := absent.do(); err != nil {
		t.Errorf("no directory, optional: %v", err)
	}
	if err := checkRoot(); err == nil || !strings.Contains(err.Error(), "writable") {
		t.Errorf("root of this machine: %v", err)
	}
}

func TestEveryMountIsGuarded(t *testing.T) {
	for _, m := range mounts {
		want := uintptr(noExec)
		if m.path == "/dev" {
			want &^= unix.MS_NODEV
		}
		if m.flags != want {
			t.Errorf("%s: flags 0x%x, want 0x%x", m.path, m.flags, want)
		}
	}
}

func TestLockDown(t *testing.T) {
	root := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(root+name), 0o755), os.WriteFile(root+name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	file("/a", "0")
	all := []setting{{path: "/a", value: "1"}, {path: "/b", value: "1", optional: true}}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		t.Fatal(err)
	}
	absent, err := lockDown(root, all)
	if err != nil || !slices.Equal(absent, []string{"/b"}) {
		t.Errorf("absent %q, %v", absent, err)
	}
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit != (unix.Rlimit{}) {
		t.Errorf("core files up to %d: %v", limit.Cur, err)
	}
	if got, _ := readTrimmed(root + "/a"); got != "1" {
		t.Errorf("a is %q", got)
	}
	if err := (setting{path: "/b", value: "1"}).apply(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a required one is missing: %v", err)
	}
	// Like the kernel's list of choices, and like a knob that does not move.
	if err := (setting{path: "/a", value: "1", want: "[1]"}).apply(root); err == nil || !strings.Contains(err.Error(), `reads "1"`) {
		t.Errorf("choice: %v", err)
	}
	file("/c", "00000")
	if err := (setting{path: "/c", value: "1"}).apply(root); err == nil || !strings.Contains(err.Error(), `reads "10000" after writing "1"`) {
		t.Errorf("other value: %v", err)
	}
	_, err = lockDown(root, []setting{{path: "/a", value: "1"}, {path: "/none", value: "1"}})
	if err == nil || !strings.Contains(err.Error(), "lock-down: /none") {
		t.Errorf("lock-down that does not hold: %v", err)
	}
}

// Nothing that must be closed may be optional by accident.
func TestLockDownCloses(t *testing.T) {
	need := map[string]string{"/proc/sys/kernel/modules_disabled": "1", "/proc/sys/kernel/panic": "-1", "/proc/sys/kernel/dmesg_restrict": "1"}
	for _, s := range settings {
		if v, ok := need[s.path]; ok && s.value == v && !s.optional {
			delete(need, s.path)
		}
	}
	if len(need) > 0 {
		t.Errorf("not required: %v", need)
	}
}

// Reap collects children that nobody waits for; the test is PID 1 of its namespace, as in a guest.
func TestReap(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { new(Reaper).Run(ctx); close(done) }()
	// An orphan: its parent ends at once, so that it becomes a child of PID 1.
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "(sleep 0.05) & exit 0"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		if err = unix.Kill(-1, 0); errors.Is(err, unix.ESRCH) { // nobody left but PID 1
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !errors.Is(err, unix.ESRCH) {
		t.Errorf("children of PID %d, the first was %d, are still there", os.Getpid(), p.Pid)
	}
	cancel()
	<-done
}
