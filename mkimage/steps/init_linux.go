package steps

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Main must be the first call of every program that runs steps, with its os.Args: it is how the program,
// started again as the init of a step's namespaces, gets there. In that case it does not return.
func Main(args []string) {
	if len(args) == 1 && args[0] == childName {
		os.Exit(initMain())
	}
	prepared = true
}

// heedSignals sees to it that no signal is ignored here, and so none in the command.
func heedSignals() error {
	signal.Notify(make(chan os.Signal, 1))
	// The C library keeps signals 32 and 33 for itself, and its posix_spawn, which make uses, leaves them
	// ignored. Go has a handler of its own for 33 and does not touch 32.
	var byDefault [4]uint64 // struct sigaction of x86-64: handler (SIG_DFL), flags, restorer, mask
	if _, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, 32, uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// initMain is process 1 of the step's namespaces.
func initMain() int {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "tally-step: started by hand")
		return 1
	}
	if err := heedSignals(); err != nil {
		fmt.Fprintln(os.Stderr, "tally-step: sigaction:", err)
		return 1
	}
	// Nothing that the caller of tally left open is for the step, and nobody looks into this process.
	if err := unix.CloseRange(requestFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, "tally-step: close_range:", err)
		return 1
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "tally-step: prctl:", err)
		return 1
	}
	in, out := os.NewFile(requestFD, "request"), os.NewFile(reportFD, "report")
	var req request
	if err := readMessage(in, &req); err != nil {
		fmt.Fprintln(os.Stderr, "tally-step: request:", err)
		return 1
	}
	rep := new(report)
	if err := inside(&req, in, rep); err != nil {
		rep.Failure = err.Error()
	}
	if err := writeMessage(out, rep); err != nil {
		return 1
	}
	if req.Probe || *rep != (report{}) {
		return 0
	}
	if err := sendOutputs(out, &req.Step); err != nil {
		fmt.Fprintln(os.Stderr, "tally-step:", err)
		return 1
	}
	return 0
}

// inside makes the build root, runs the command in it and, when it succeeded, leaves nothing running and
// nothing mounted but the build root.
func inside(req *request, in *os.File, rep *report) error {
	if err := isolate(req); err != nil {
		return err
	}
	if err := unpack(in, &req.Step); err != nil {
		return fmt.Errorf("build root: %w", err)
	}
	go func() { // tally is gone when the pipe is
		in.Read(make([]byte, 1))
		os.Exit(1)
	}()
	if req.Probe {
		return nil
	}
	// The thread that starts the command gives up everything first; it ends with the goroutine.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- command(req, rep)
	}()
	if err := <-done; err != nil || rep.Status != 0 || rep.Signal != "" {
		return err
	}
	for _, dir := range append(devices(), "/proc") {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	return checkOutputs(&req.Step)
}

// command runs the command and waits for it and all that it left behind.
func command(req *request, rep *report) error {
	s := &req.Step
	env := s.Environment()
	program, err := lookPath(s.Command[0], env)
	if err != nil {
		return err
	}
	null, err := os.Open("/dev/null") // the read-only mount's
	if err != nil {
		return err
	}
	defer null.Close()
	if err := renounce(req.Vary); err != nil {
		return err
	}
	if err := fixUname(); err != nil {
		return err
	}
	if req.Vary {
		if err := burnPIDs(null); err != nil {
			return err
		}
	}
	attr := &syscall.ProcAttr{Dir: "/" + s.Dir, Env: env, Files: []uintptr{null.Fd(), 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true, Ptrace: s.Memory > 0}}
	pid, err := syscall.ForkExec(program, s.Command, attr)
	if err != nil {
		return fmt.Errorf("command %.80q: %w", s.Command[0], err)
	}
	if s.Memory > 0 {
		if err := limitMemory(pid, uint64(s.Memory)); err != nil {
			return fmt.Errorf("limit of memory: %w", err)
		}
	}
	return wait(pid, rep)
}

// limitMemory sets the limit of a process that ptrace(2) holds before its first instruction, and lets it go.
func limitMemory(pid int, size uint64) error {
	var st unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &st, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	if !st.Stopped() {
		return errors.New("the command did not wait for it")
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: size, Max: size}, nil); err != nil {
		return err
	}
	return unix.PtraceDetach(pid)
}

// wait reaps what dies until the command has, kills the rest and reaps that.
func wait(pid int, rep *report) error {
	for {
		var st unix.WaitStatus
		got, err := unix.Wait4(-1, &st, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case got == pid:
			if st.Signaled() {
				rep.Signal = unix.SignalName(st.Signal())
			} else {
				rep.Status = st.ExitStatus()
			}
			if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill: %w", err)
			}
		}
	}
}

// burnPIDs uses up some process numbers.
func burnPIDs(null *os.File) error {
	for range 40 {
		pid, err := syscall.ForkExec("/no such program", []string{"x"}, &syscall.ProcAttr{Files: []uintptr{null.Fd()}})
		if err == nil {
			return fmt.Errorf("process %d should not have started", pid)
		}
	}
	return nil
}
