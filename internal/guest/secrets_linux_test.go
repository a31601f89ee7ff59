//go:build amd64

package guest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const secretCanary = "CANARY-5ec7e7"

// observeSecrets is what an engine sees of its secrets.
func observeSecrets(tell func(string, error), out map[string]string) {
	all, err := os.ReadDir(SecretsDir)
	tell("list", err)
	for _, e := range all {
		path := filepath.Join(SecretsDir, e.Name())
		b, err := os.ReadFile(path)
		if err != nil {
			b = []byte(err.Error())
		}
		var st unix.Stat_t
		tell("stat", unix.Stat(path, &st))
		out[e.Name()] = fmt.Sprintf("%o %d:%d %s", st.Mode, st.Uid, st.Gid, b)
		tell("chmod", os.Chmod(path, 0o777))
		tell("write", os.WriteFile(path, nil, 0))
		tell("remove", os.Remove(path))
	}
	tell("create", os.WriteFile(filepath.Join(SecretsDir, "x"), nil, 0o600))
	tell("remount", unix.Mount("", SecretsDir, "", unix.MS_REMOUNT|unix.MS_BIND, ""))
}

// TestEngineSecrets: an engine that waits for secrets is started when they are there, finds them as files of its
// own that it cannot change, and finds them again when it is started again. They are nowhere else.
func TestEngineSecrets(t *testing.T) {
	if !asRoot(t) {
		return
	}
	program := engineWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := new(Reaper)
	go r.Run(context.WithoutCancel(ctx)) // it outlives the engine, whose end it tells
	e := &Engine{Command: []string{program, "engine-probe", "secrets"}, UID: 990, Secrets: true}
	if err := MountSecrets(e); err != nil {
		t.Fatal(err)
	}
	wantPrivateMount(t)
	var log bytes.Buffer
	there, waits := make(chan struct{}), make(chan struct{}, 8)
	started, ended := make(chan int, 8), make(chan int, 8)
	done := make(chan error, 1)
	go func() {
		done <- RunEngine(ctx, e, r, program, slog.New(slog.NewTextHandler(&log, nil)), Hooks{
			Before: func(ctx context.Context) error {
				waits <- struct{}{}
				select {
				case <-there:
				case <-ctx.Done():
				}
				return nil
			},
			Started: func(pid int, _ func()) { started <- pid },
			Ended:   func(n int) { ended <- n },
		})
	}()
	<-waits
	select {
	case <-started:
		t.Fatal("the engine runs without its secrets")
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := os.Stat(EngineSocket); err == nil || log.Len() != 0 {
		t.Fatalf("there is an engine, %v, log %s", err, &log)
	}
	for name, values := range map[string]map[string][]byte{
		"a path":   {"../x": []byte("1")},
		"too long": {"b": []byte(secretCanary), "c": make([]byte, 4*maxSecretTotal)},
	} {
		if err := KeepSecrets(e, values); err == nil {
			t.Errorf("%s: no error", name)
		}
		if left, err := os.ReadDir(SecretsDir); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v were left", name, left, err)
		}
	}
	if err := KeepSecrets(e, map[string][]byte{"token": []byte(secretCanary), "tls-key": []byte("\x00key\n")}); err != nil {
		t.Fatal(err)
	}
	if err := KeepSecrets(e, map[string][]byte{"token": []byte("other")}); err == nil {
		t.Error("a secret was changed")
	}
	if left, err := os.ReadFile(SecretsDir + "/tls-key"); err != nil || len(left) == 0 {
		t.Errorf("%q, %v: what is there must stay", left, err)
	}
	close(there)
	want := map[string]string{
		"token": "100400 990:990 " + secretCanary, "tls-key": "100400 990:990 \x00key\n", "list": "ok", "stat": "ok", "chmod": "read-only file system",
		"write": "read-only file system", "remove": "read-only file system", "create": "read-only file system", "remount": "operation not permitted", "/run": "engine secrets",
	}
	for n := 1; n <= 2; n++ {
		got := ask(t)
		mine := map[string]string{}
		for k := range want {
			mine[k] = got[k]
		}
		if d := cmp.Diff(want, mine); d != "" {
			t.Errorf("start %d: -want +got\n%s", n, d)
		}
		if strings.Contains(got["env"]+got["args"], secretCanary) {
			t.Errorf("env %s, args %s", got["env"], got["args"])
		}
		<-ended
	}
	wantNotInProcesses(t)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "CANARY") {
		t.Errorf("log %s", &log)
	}
}

// wantPrivateMount looks at the directory as the enclave has it.
func wantPrivateMount(t *testing.T) {
	t.Helper()
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Statfs(SecretsDir, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		t.Errorf("file system %x, %v", fs.Type, err)
	}
	if err := unix.Stat(SecretsDir, &st); err != nil || st.Mode != unix.S_IFDIR|0o550 || st.Uid != 0 || st.Gid != 990 {
		t.Errorf("%o %d:%d, %v", st.Mode, st.Uid, st.Gid, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(l); len(f) > 4 && f[4] == SecretsDir {
			for _, want := range []string{"nosuid", "nodev", "noexec", "noswap"} {
				if !strings.Contains(l, want) {
					t.Errorf("no %s in %s", want, l)
				}
			}
			return
		}
	}
	t.Error("not mounted")
}

// wantNotInProcesses looks where every process of the machine shows what it was started with.
func wantNotInProcesses(t *testing.T) {
	t.Helper()
	for _, file := range []string{"environ", "cmdline"} {
		all, _ := filepath.Glob("/proc/[0-9]*/" + file)
		if len(all) == 0 {
			t.Error("no processes")
		}
		for _, f := range all {
			if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(secretCanary)) {
				t.Errorf("%s has it", f)
			}
		}
	}
}
