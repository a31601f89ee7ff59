package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A setting is one kernel knob, closed before anybody may talk to the guest.
type setting struct {
	path, value string
	want        string // what reading it back contains; empty: value
	optional    bool   // the kernel may lack it, which then is as good as closed
}

// settings in order; the first three are one-way in the kernel (no later write opens them again).
var settings = []setting{
	{path: "/proc/sys/kernel/modules_disabled", value: "1"},
	{path: "/proc/sys/kernel/kexec_load_disabled", value: "1", optional: true},
	{path: "/sys/kernel/security/lockdown", value: "confidentiality", want: "[confidentiality]", optional: true},
	{path: "/proc/sys/kernel/sysrq", value: "0", optional: true},
	{path: "/proc/sys/kernel/panic", value: "-1"},
	{path: "/proc/sys/kernel/dmesg_restrict", value: "1"},
	{path: "/proc/sys/kernel/kptr_restrict", value: "2"},
	{path: "/proc/sys/kernel/perf_event_paranoid", value: "3", optional: true},
	{path: "/proc/sys/kernel/unprivileged_bpf_disabled", value: "1", optional: true},
	{path: "/proc/sys/kernel/yama/ptrace_scope", value: "3", optional: true},
	{path: "/proc/sys/user/max_user_namespaces", value: "0", optional: true},
	{path: "/proc/sys/fs/suid_dumpable", value: "0"},
	{path: "/proc/sys/kernel/core_pattern", value: "|/nonexistent"},
}

// lockDown writes every setting below root (for tests; "" in a guest), reads it back, and forbids core
// files. The first one that does not hold is an error: half a lock-down is none. It returns the optional
// ones that this kernel lacks.
func lockDown(root string, all []setting) (absent []string, err error) {
	for _, s := range all {
		err := s.apply(root)
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			absent = append(absent, s.path)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lock-down: %s: %w", s.path, err)
		}
	}
	return absent, unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}

func (s setting) apply(root string) error {
	f, err := os.OpenFile(root+s.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s.value)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	got, err := readTrimmed(root + s.path)
	if err != nil {
		return err
	}
	if s.want == "" && got != s.value || !strings.Contains(got, s.want) {
		return fmt.Errorf("reads %.80q after writing %q", got, s.value)
	}
	return nil
}
