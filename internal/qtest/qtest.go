// Package qtest drives a stock QEMU without running a guest: QEMU's own test interface (docs/devel/testing/qtest.rst)
// reads and writes ports and memory of a machine whose processors never start. No KVM, no firmware, no network: what
// the machine holds depends on QEMU's release and its arguments alone.
//
// The protocol is lines over standard input and output: "outl 0xcf8 0x80000000", "OK"; "inl 0xcfc", "OK
// 0x29c08086"; "read 0x1000 0x4", "OK 0x00000000".
package qtest

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Limits on what QEMU may say, in bytes.
const (
	maxLine = 16 << 20
	maxTalk = 4096
)

// grace is how long QEMU may take to end after it was told to.
const grace = 3 * time.Second

// A Machine is a QEMU that waits for commands.
type Machine struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	talk *tail
	dir  string
}

// forbidden are arguments that would take the machine out of our hands, or read what is not named.
var forbidden = map[string]string{
	"-accel": "the accelerator is set here", "-enable-kvm": "the accelerator is qtest", "-qtest": "it is set here", "-bios": "no firmware runs",
	"-pflash": "no firmware runs", "-monitor": "there is none", "-qmp": "there is none", "-serial": "there is none", "-daemonize": "it stays in the foreground",
	"-S": "nothing runs", "-readconfig": "name the options themselves", "-display": "there is none", "-nographic": "there is none",
}

// Start starts the program at path with args, which describe the machine. The machine has no devices but
// those named. It ends with Close or with ctx.
func Start(ctx context.Context, path string, args []string) (*Machine, error) {
	if err := check(args); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tally-qtest-")
	if err != nil {
		return nil, err
	}
	m := &Machine{talk: new(tail), dir: dir}
	if err := m.start(ctx, path, args); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return m, nil
}

func check(args []string) error {
	for _, a := range args {
		name := "-" + strings.TrimLeft(a, "-")
		if why, ok := forbidden[name]; ok && strings.HasPrefix(a, "-") {
			return fmt.Errorf("QEMU argument %.40q: %s", a, why)
		}
		if strings.Contains(a, "confidential-guest-support") || strings.HasPrefix(a, "tdx-guest") || strings.Contains(a, "accel=") {
			return fmt.Errorf("QEMU argument %.80q: want the machine's shape alone, without protection or accelerator", a)
		}
		if strings.ContainsAny(a, "\x00\n") {
			return fmt.Errorf("QEMU argument %.40q: control characters", a)
		}
	}
	return nil
}

func (m *Machine) start(ctx context.Context, path string, args []string) error {
	// Something must lie where the firmware goes; nothing ever executes it.
	bios := filepath.Join(m.dir, "bios")
	if err := os.WriteFile(bios, make([]byte, 64<<10), 0o600); err != nil {
		return err
	}
	all := append([]string{"-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-S", "-qtest", "stdio", "-qtest-log", "none", "-bios", bios}, args...)
	m.cmd = exec.CommandContext(ctx, path, all...)
	m.cmd.WaitDelay, m.cmd.Stderr, m.cmd.Dir = grace, m.talk, m.dir
	m.cmd.Env = []string{"LC_ALL=C", "HOME=" + m.dir, "PATH=/usr/bin:/bin"}
	var err error
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	m.out = bufio.NewReaderSize(out, 64<<10)
	if err := m.cmd.Start(); err != nil {
		return err
	}
	// The first answer says whether QEMU took its arguments.
	if _, err := m.command("endianness"); err != nil {
		m.stop()
		return err
	}
	return nil
}

// Close ends QEMU and removes what it had on disk.
func (m *Machine) Close() error {
	m.stop()
	return os.RemoveAll(m.dir)
}

func (m *Machine) stop() {
	m.in.Close()
	m.cmd.Process.Kill() // the machine holds nothing worth an orderly end
	m.cmd.Wait()
}

// command sends one line and returns what follows OK.
func (m *Machine) command(format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(m.in, format+"\n", args...); err != nil {
		return "", m.failed(err)
	}
	for {
		line, err := m.line()
		if err != nil {
			return "", m.failed(err)
		}
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "OK":
			return rest, nil
		case "IRQ":
		default:
			return "", fmt.Errorf("QEMU: answer %.80q to %.80q, want OK", line, fmt.Sprintf(format, args...))
		}
	}
}

// line reads one line of at most maxLine bytes.
func (m *Machine) line() (string, error) {
	var b []byte
	for {
		part, err := m.out.ReadSlice('\n')
		b = append(b, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(b) < maxLine:
			continue
		case err != nil:
			return "", err
		}
		return strings.TrimRight(string(b), "\r\n"), nil
	}
}

// failed adds QEMU's own words to an error of talking to it.
func (m *Machine) failed(err error) error {
	m.in.Close()
	m.cmd.Wait()
	if said := m.talk.text(); said != "" {
		return fmt.Errorf("QEMU ended: %.600s", said)
	}
	return fmt.Errorf("QEMU ended: %w", err)
}

// OutL writes four bytes to a port.
func (m *Machine) OutL(port uint16, v uint32) error {
	_, err := m.command("outl %#x %#x", port, v)
	return err
}

// InL reads four bytes from a port.
func (m *Machine) InL(port uint16) (uint32, error) {
	s, err := m.command("inl %#x", port)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("QEMU: answer %.40q, want a number", s)
	}
	return uint32(v), nil
}

// Write writes guest memory.
func (m *Machine) Write(addr uint64, b []byte) error {
	_, err := m.command("write %#x %#x 0x%x", addr, len(b), b)
	return err
}

// Read reads guest memory.
func (m *Machine) Read(addr uint64, size int) ([]byte, error) {
	s, err := m.command("read %#x %#x", addr, size)
	if err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("QEMU: %d bytes of memory at %#x, want %d", len(b), addr, size)
	}
	return b, nil
}

// A tail keeps the last bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-maxTalk):]
	return len(p), nil
}

// text is what was said, in one line of printable ASCII.
func (t *tail) text() string {
	clean := func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}
	return strings.Join(strings.Fields(strings.Map(clean, string(t.b))), " ")
}
