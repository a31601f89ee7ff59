// Command engine is what TestOptionalKeys puts behind an enclave. Its arguments are the socket to listen on and a
// secret's file, without which it ends. It says all that it is asked on its output, and answers a chat with the
// SHA-256 of the secret, in hex; one that speaks of patience only after three silent seconds. Other words:
//
//	look     what this process may do and can see, as JSON
//	crash    a process of its own is aborted with the question in memory: how it ended
//	repeat   the question
//	eat      memory, until somebody stops it
//	die      nothing: the engine ends
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Args[1] == "crash" {
		debug.SetTraceback("crash") // SIGABRT, with the arguments in memory
		panic(os.Args[2])
	}
	secret, err := os.ReadFile(os.Args[2])
	if err != nil {
		os.Exit(1)
	}
	ln, err := net.Listen("unix", os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"status":"ok"}`) })
	http.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fmt.Printf("%s\n", body)
		fmt.Fprintf(os.Stderr, "%s\n", body)
		os.WriteFile("/tmp/asked", body, 0o600)
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"id": "1", "object": "chat.completion", "created": 0, "model": "none",
			"choices": []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]string{
				"role": "assistant", "content": answer(string(body), secret)}}}})
	})
	http.Serve(ln, nil)
	os.Exit(1)
}

func answer(body string, secret []byte) string {
	asked := func(word string) bool { return strings.Contains(body, `"`+word) }
	switch {
	case asked("look"):
		b, _ := json.Marshal(look())
		return string(b)
	case asked("repeat"):
		return body
	case asked("crash"):
		err := exec.Command("/usr/bin/engine", "crash", body).Run()
		if e, ok := err.(*exec.ExitError); ok {
			return e.Error() // "(core dumped)" stands there when it was
		}
		return fmt.Sprint(err)
	case asked("eat"):
		for held := [][]byte{}; ; {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			held = append(held, b)
		}
	case asked("die"):
		os.Exit(3)
	case asked("patience"):
		time.Sleep(3 * time.Second)
	}
	return fmt.Sprintf("%x", sha256.Sum256(secret))
}

// look is what the kernel says of this process, and what it lets it do.
func look() map[string]string {
	out := map[string]string{}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			switch key {
			case "Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp":
				out[key] = strings.Join(strings.Fields(value), " ")
			}
		}
	}
	for key, file := range map[string]string{"cgroup": "/proc/self/cgroup", "core pattern": "/proc/sys/kernel/core_pattern", "suid_dumpable": "/proc/sys/fs/suid_dumpable",
		"modules disabled": "/proc/sys/kernel/modules_disabled", "ptrace scope": "/proc/sys/kernel/yama/ptrace_scope"} {
		b, err := os.ReadFile(file)
		out[key] = strings.TrimSpace(string(b))
		if err != nil {
			out[key] = err.Error()
		}
	}
	var core syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &core); err == nil {
		out["core limit"] = fmt.Sprint(core.Cur, " ", core.Max)
	}
	for _, dir := range []string{"/dev", "/sys", "/run"} {
		all, _ := os.ReadDir(dir)
		for _, e := range all {
			out[dir] += e.Name() + " "
		}
	}
	processes, _ := os.ReadDir("/proc")
	for _, e := range processes {
		if e.Name()[0] >= '0' && e.Name()[0] <= '9' {
			out["processes"] += e.Name() + " "
		}
	}
	tell := func(what string, err error) { out[what] = fmt.Sprint(err) }
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	tell("inet", err)
	if err == nil {
		syscall.Close(fd)
	}
	tell("mount", syscall.Mount("x", "/tmp", "tmpfs", 0, ""))
	tell("setuid", syscall.Setuid(0))
	tell("root", os.WriteFile("/core", nil, 0o600))
	return out
}
