//go:build amd64

package guest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeDriver writes what a driver with GPUs of these minor numbers says below root's /proc.
func fakeDriver(t *testing.T, root string, minors []string, switches int, devices string) {
	t.Helper()
	put := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, "proc", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range minors {
		put("driver/nvidia/gpus/0000:0"+string(rune('1'+i))+":00.0/information", "Model: \t\t NVIDIA H100\nBus Location: \t 0000:01:00.0\nDevice Minor: \t "+m+"\nGPU Excluded:\t No\n")
	}
	for i := range switches {
		put("driver/nvidia-nvswitch/devices/0000:0"+string(rune('1'+i))+":00.0", "")
	}
	put("devices", devices)
}

const driverDevices = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n508 nvidia-nvswitch\n510 nvidia-uvm\n\nBlock devices:\n259 nvidia-uvm\n"

func TestGPUDevices(t *testing.T) {
	root := t.TempDir()
	fakeDriver(t, root, []string{"0", "7"}, 2, driverDevices)
	got, err := gpuDevices(root)
	want := []device{{"nvidiactl", 195, 255, true}, {"nvidia0", 195, 0, true}, {"nvidia7", 195, 7, true}, {"nvidia-uvm", 510, 0, true},
		{"nvidia-nvswitchctl", 508, 255, false}, {"nvidia-nvswitch0", 508, 0, false}, {"nvidia-nvswitch1", 508, 1, false}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		minors   []string
		switches int
		devices  string
		want     string
	}{
		"no GPU":      {nil, 0, driverDevices, "no GPU"},
		"no UVM":      {[]string{"0"}, 0, "Character devices:\nBlock devices:\n510 nvidia-uvm\n", "no nvidia-uvm"},
		"no switches": {[]string{"0"}, 1, "510 nvidia-uvm\n", "no nvidia-nvswitch"},
		"no number":   {[]string{"x"}, 0, driverDevices, "device minor"},
		"the control": {[]string{"255"}, 0, driverDevices, "device minor"},
		"twice":       {[]string{"1", "1"}, 0, driverDevices, "of its own"},
	} {
		root := t.TempDir()
		fakeDriver(t, root, c.minors, c.switches, c.devices)
		if got, err := gpuDevices(root); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want %q", name, got, err, c.want)
		}
	}
}

// TestEngineWithGPUs: the engine sees the GPUs' devices and neither the switches' nor any other. With a loopback of its own it may speak with
// itself and nobody else.
func TestEngineWithGPUs(t *testing.T) {
	if !asRoot(t) {
		return
	}
	program := engineWorld(t)
	fakeDriver(t, "/mnt", []string{"0"}, 1, driverDevices)
	for _, name := range []string{"/proc/driver", "/proc/devices"} {
		if err := unix.Mount("/mnt"+name, name, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := new(Reaper)
	go r.Run(t.Context()) // it has the engine's end to tell after ctx has ended
	pids, stops, before := make(chan int, 8), make(chan func(), 8), 0
	done := make(chan error, 1)
	e := &Engine{Command: []string{program, "engine-probe"}, UID: 990, GPU: true, Loopback: true, SharedMiB: 3}
	go func() {
		done <- RunEngine(ctx, e, r, program, slog.New(slog.DiscardHandler), Hooks{
			Before:  func(context.Context) error { before++; return nil },
			Started: func(pid int, stop func()) { pids <- pid; stops <- stop },
		})
	}()
	pid := <-pids
	ours, err := PIDNamespace(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if its, err := PIDNamespace(pid); err != nil || its == ours {
		t.Errorf("the engine is in PID namespace %s as we are: %v", its, err)
	}
	got := ask(t)
	for what, want := range map[string]string{"/dev": "full null nvidia-uvm nvidia0 nvidiactl random shm urandom zero", "loopback": "ok", "inet": "ok", "interfaces": "lo",
		"netlink": "address family not supported by protocol", "inet socketpair": "operation not supported", "shared": "3145728 nosuid nodev noexec"} {
		if got[what] != want {
			t.Errorf("%s: %q, want %q", what, got[what], want)
		}
	}
	<-stops
	<-pids // again, and not asked this time
	(<-stops)()
	<-pids
	cancel()
	if err := <-done; err != nil || before < 3 {
		t.Errorf("%v, %d starts", err, before)
	}
	failing := Hooks{Before: func(context.Context) error { return errors.New("no GPU is ready") }}
	if err := RunEngine(context.Background(), e, r, program, slog.New(slog.DiscardHandler), failing); err == nil || !strings.Contains(err.Error(), "no GPU is ready") {
		t.Errorf("a hook that fails: %v", err)
	}
}

// failing is a writer that takes nothing.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("too much") }

// TestCommand: a program's end is its caller's to learn, though the Reaper collects every child.
func TestCommand(t *testing.T) {
	if !asRoot(t) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := new(Reaper)
	go r.Run(ctx)
	sh := func(ctx context.Context, script string) (string, string, error) {
		var out, complaint bytes.Buffer
		err := r.Command(ctx, "/bin/sh", []string{"-c", script}, &out, &complaint)
		return out.String(), complaint.String(), err
	}
	out, complaint, err := sh(ctx, `echo out; echo err >&2; read x; echo "[$x]"; cat /proc/self/net/dev | tail -n +3 | grep -v lo: | wc -l; env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=`)
	if out != "out\n[]\n0\n" || complaint != "err\n" || err == nil || err.Error() != "exit 1" { // grep finds no variable
		t.Errorf("%q, %q, %v", out, complaint, err)
	}
	if out, _, err := sh(ctx, "exit 0"); out != "" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if _, _, err := sh(ctx, "kill -9 $$"); err == nil || err.Error() != "signal 9" {
		t.Errorf("%v", err)
	}
	began := time.Now()
	if out, _, err := sh(ctx, "sleep 60 & echo x"); out != "x\n" || err != nil {
		t.Errorf("what it leaves behind: %q, %v", out, err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, _, err := sh(short, "sleep 60; sleep 60"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the end of its time: %v", err)
	}
	if err := r.Command(ctx, "/bin/sh", []string{"-c", "while echo xxxxxxx; do :; done"}, failing{}, failing{}); err == nil || err.Error() != "too much" {
		t.Errorf("a writer that fails: %v", err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	if err := r.Command(ctx, "/nonexistent", nil, failing{}, failing{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	if _, err := PIDNamespace(1 << 30); err == nil {
		t.Error("no process: no error")
	}
}
