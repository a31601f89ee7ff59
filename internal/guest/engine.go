package guest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// EngineSocket is where an engine listens. Its directory, and SecretsDir where there are secrets, are the only places
// that enclave and engine share.
const EngineSocket = engineDir + "/engine.sock"

const (
	engineDir     = "/run/engine"
	maxWords      = 64
	maxWord       = 4096    // bytes
	maxMemoryMiB  = 1 << 24 // 16 TiB
	maxEngineUser = 65533
)

// An Engine is the inference server, a process of its own that must not be trusted with more than what is
// asked of it. It runs as a user of its own without capabilities or new privileges, in mount, network, PID,
// IPC and UTS namespaces of its own: it sees the root, an empty /sys, a /dev of five harmless devices (and, with GPU, those of the GPUs), and
// no network interface. A seccomp filter refuses it what the kernel should not be asked (see seccomp). Its
// input and output are /dev/null. With it ends everything it has started.
//
// An engine of many processes, such as vLLM, may need Loopback and SharedMiB to speak with itself.
type Engine struct {
	Command   []string
	UID       int   // and GID
	MemoryMiB int64 // 0: no limit
	SharedMiB int64 // of /dev/shm; 0: there is none
	Loopback  bool  // its own loopback interface is up, and it may open sockets of IP
	GPU       bool  // it has the devices of the GPU driver, too
	Secrets   bool  // it has SecretsDir, read-only, too
}

func parseEngine(raw json.RawMessage) (*Engine, error) {
	o, err := object(raw, "engine.", []string{"command", "uid"}, []string{"memory-mib", "shared-mib", "loopback"})
	if err != nil {
		return nil, err
	}
	e := new(Engine)
	if json.Unmarshal(o["command"], &e.Command) != nil || !validCommand(e.Command) {
		return nil, fmt.Errorf("engine.command: want 1 to %d strings of at most %d bytes without NUL, the first a clean absolute path", maxWords, maxWord)
	}
	uid, err := whole(o["uid"], "engine.uid", maxEngineUser)
	if err != nil {
		return nil, err
	}
	e.UID = int(uid)
	if raw, ok := o["loopback"]; ok && string(raw) != "true" {
		return nil, fmt.Errorf("engine.loopback: want true, or the key left out")
	}
	_, e.Loopback = o["loopback"]
	for key, to := range map[string]*int64{"memory-mib": &e.MemoryMiB, "shared-mib": &e.SharedMiB} {
		if raw, ok := o[key]; ok {
			if *to, err = whole(raw, "engine."+key, maxMemoryMiB); err != nil {
				return nil, err
			}
		}
	}
	return e, nil
}

func validCommand(words []string) bool {
	if len(words) < 1 || len(words) > maxWords || !path.IsAbs(words[0]) || path.Clean(words[0]) != words[0] || words[0] == "/" {
		return false
	}
	for _, w := range words {
		if len(w) > maxWord || strings.ContainsRune(w, 0) {
			return false
		}
	}
	return true
}

// whole reads a number from 1 to limit.
func whole(raw json.RawMessage, key string, limit int64) (int64, error) {
	var n int64
	if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, &n) != nil || n < 1 || n > limit {
		return 0, fmt.Errorf("%s: want a whole number from 1 to %d", key, limit)
	}
	return n, nil
}
