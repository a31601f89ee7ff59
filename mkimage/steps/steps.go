package steps

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tally/mkimage/tree"
)

// Version is that of what a step sees and of how its outputs are taken. It enters every Key.
const Version = 1

// Limits and defaults of a step.
const (
	MaxOutputs = 256
	MaxTimeout = 24 * time.Hour
	MaxDisk    = 256 << 30 // bytes
	MaxMemory  = 1 << 40   // bytes

	DefaultTimeout = 10 * time.Minute
	DefaultDisk    = 4 << 30 // bytes
	DefaultDir     = "build"

	maxFiles = 1 << 20 // in the outputs
)

// A Step is one command with what it may use and what it must make. Paths are those of mkimage/tree:
// relative to the build root, without "..".
type Step struct {
	Name    string        `json:"name"`
	Command []string      `json:"command"` // program and arguments; no shell unless it is named
	Dir     string        `json:"dir"`     // where it starts; made when it is missing
	Env     []string      `json:"env"`     // NAME=value, over the fixed ones of Environment
	Outputs []Output      `json:"outputs"`
	Epoch   int64         `json:"epoch"`  // seconds since 1970: SOURCE_DATE_EPOCH, and the time of every output
	Timeout time.Duration `json:"-"`      // of the whole step; a limit is no input
	Memory  int64         `json:"memory"` // bytes of address space of each process; 0: no limit
	Disk    int64         `json:"disk"`   // bytes of the build root with everything in it
}

// An Output is a file, a symbolic link or a directory with all below it that a step makes.
type Output struct {
	Path   string `json:"path"`   // in the build root
	Target string `json:"target"` // in the image
	Mode   uint32 `json:"mode"`   // of a file; 0: 0755 when its owner may execute it, else 0644
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
}

// Check refuses a step that cannot be run.
func (s *Step) Check() error {
	switch {
	case len(s.Command) == 0 || s.Command[0] == "":
		return errors.New("command: empty")
	case len(s.Outputs) == 0 || len(s.Outputs) > MaxOutputs:
		return fmt.Errorf("outputs: %d, want 1 to %d", len(s.Outputs), MaxOutputs)
	case s.Timeout <= 0 || s.Timeout > MaxTimeout:
		return fmt.Errorf("timeout %s: want at most %s", s.Timeout, MaxTimeout)
	case s.Disk <= 0 || s.Disk > MaxDisk:
		return fmt.Errorf("disk %d: want 1 to %d bytes", s.Disk, int64(MaxDisk))
	case s.Memory < 0 || s.Memory > MaxMemory:
		return fmt.Errorf("memory %d: want 0 to %d bytes", s.Memory, int64(MaxMemory))
	}
	for _, w := range append(append([]string{}, s.Command...), s.Env...) {
		if strings.ContainsRune(w, 0) {
			return fmt.Errorf("command: word %.80q: NUL byte", w)
		}
	}
	for _, kv := range s.Env {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return fmt.Errorf("env %.80q: want NAME=value", kv)
		}
	}
	if err := CheckPath(s.Dir); err != nil {
		return fmt.Errorf("dir: %w", err)
	}
	return s.checkOutputs()
}

func (s *Step) checkOutputs() error {
	for i, o := range s.Outputs {
		if err := CheckPath(o.Path); err != nil {
			return fmt.Errorf("output: %w", err)
		}
		if err := tree.CheckPath(o.Target); err != nil {
			return fmt.Errorf("output target: %w", err)
		}
		if o.Mode > 0o7777 {
			return fmt.Errorf("output %q: mode %#o: want at most 07777", o.Path, o.Mode)
		}
		for _, other := range s.Outputs[:i] {
			if within(o.Target, other.Target) || within(other.Target, o.Target) {
				return fmt.Errorf("output target %q: lies in or around that of %q", o.Target, other.Path)
			}
		}
	}
	return nil
}

// CheckPath accepts a path of the build root that belongs to the step: not the root itself and not below
// dev and proc, which are not the step's own.
func CheckPath(p string) error {
	if err := tree.CheckPath(p); err != nil {
		return err
	}
	if reserved(p) {
		return fmt.Errorf("path %q: dev, proc and sys are not the step's own", p)
	}
	return nil
}

// reserved says whether what is at p in a build root comes from the kernel.
func reserved(p string) bool { return within(p, "dev") || within(p, "proc") || within(p, "sys") }

// within says whether p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// A Key names what a step's outputs depend on.
type Key [sha256.Size]byte

// KeyOf is the SHA-256 of a title with Version, the step's definition as JSON and the digest of the build
// root it starts with, inputs included: all that a deterministic command can see.
func KeyOf(s *Step, root *tree.Tree) (Key, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return Key{}, fmt.Errorf("step %s: %w", s.Name, err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "tally step v%d\n%d\n%s", Version, len(data), data)
	sum := root.Digest(s.Epoch)
	h.Write(sum[:])
	return Key(h.Sum(nil)), nil
}

// Environment is what the command of s finds in its environment: fixed names, over which those of s.Env
// stand. Nothing comes from the caller's.
func (s *Step) Environment() []string {
	at := time.Unix(s.Epoch, 0).UTC()
	fixed := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/tmp", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "LC_ALL=C.UTF-8", "TZ=UTC",
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", s.Epoch),
		// Linux, Documentation/kbuild/reproducible-builds.rst
		"KBUILD_BUILD_TIMESTAMP=" + at.Format("Mon Jan _2 15:04:05 UTC 2006"), "KBUILD_BUILD_USER=" + HostName, "KBUILD_BUILD_HOST=" + HostName, "KBUILD_BUILD_VERSION=1",
	}
	var out []string
	for _, kv := range append(fixed, s.Env...) {
		name, _, _ := strings.Cut(kv, "=")
		for i := range out {
			if strings.HasPrefix(out[i], name+"=") {
				out = append(out[:i], out[i+1:]...)
				break
			}
		}
		out = append(out, kv)
	}
	return out
}

// HostName is the name of every machine a step runs on, as far as the step can see.
const HostName = "tally"
