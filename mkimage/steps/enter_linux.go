package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"tally/mkimage/tree"
)

// prepared is set by Main: without it the program would start itself in vain.
var prepared bool

// enter starts this program again as the init of new namespaces, hands it the request and the build root,
// and takes its report and its outputs.
func enter(ctx context.Context, req request, root *tree.Tree, out io.Writer, t *talk) (*report, error) {
	if !prepared {
		return nil, errors.New("the program does not call steps.Main")
	}
	var p pipes
	defer p.close()
	if err := p.open(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Dir = []string{childName}, []string{}, "/"
	cmd.ExtraFiles = []*os.File{p.request[0], p.report[1]}
	cmd.Stdout, cmd.Stderr = p.log[1], p.log[1]
	cmd.SysProcAttr = namespaces()
	if err := cmd.Start(); err != nil {
		return nil, explain(err)
	}
	p.request[0].Close()
	p.report[1].Close()
	p.log[1].Close()
	said := make(chan struct{})
	go func() {
		defer close(said)
		t.follow(p.log[0])
	}()
	rep, err := exchange(ctx, &p, req, root, out)
	if err != nil {
		stop() // kills the init, and with it everything in its process namespace
	}
	if werr := cmd.Wait(); err == nil && werr != nil { // what it sent may not be all
		err = fmt.Errorf("the init of the step's namespaces: %w", werr)
	}
	<-said
	if err != nil && len(t.last) > 0 {
		err = fmt.Errorf("%w: %s", err, t.last[len(t.last)-1])
	}
	return rep, err
}

// exchange is the conversation over the pipes.
func exchange(ctx context.Context, p *pipes, req request, root *tree.Tree, out io.Writer) (*report, error) {
	err := writeMessage(p.request[1], req)
	if err == nil {
		err = writeRoot(ctx, p.request[1], root, req.Step.Epoch, req.Vary)
	}
	if err != nil && !errors.Is(err, syscall.EPIPE) { // who closed the pipe has reported why
		return nil, err
	}
	rep := new(report)
	if err := readMessage(p.report[0], rep); errors.Is(err, io.EOF) {
		return nil, errors.New("the init of the step's namespaces died")
	} else if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if req.Probe || rep.Failure != "" || rep.Status != 0 || rep.Signal != "" {
		return rep, nil
	}
	// That the stream is whole, the init's exit status says.
	limit := req.Step.Disk + tarOverhead
	n, err := io.Copy(out, io.LimitReader(p.report[0], limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("outputs: more than %d bytes", req.Step.Disk)
	}
	return rep, err
}

// namespaces asks for one of each kind. Inside, the one user is 0:0, and is the caller outside.
func namespaces() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Setsid:      true, // no terminal, and a Ctrl-C is for tally alone
	}
	// Who may, drops the caller's further groups: others must keep them, and the step can count them.
	if allow, err := os.ReadFile("/proc/self/setgroups"); err == nil && bytes.HasPrefix(allow, []byte("allow")) && os.Geteuid() == 0 {
		a.GidMappingsEnableSetgroups = true
		a.Credential = &syscall.Credential{}
	}
	return a
}

// explain says what refused the namespaces.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: they are not permitted here, by a setting (user.max_user_namespaces, kernel.unprivileged_userns_clone), a container or a chroot", ErrUnsupported)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EUSERS):
		return fmt.Errorf("%w: user.max_user_namespaces is reached", ErrUnsupported)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS):
		return fmt.Errorf("%w: this kernel has not all kinds", ErrUnsupported)
	}
	return fmt.Errorf("%w: %w", ErrUnsupported, err)
}

// pipes are the three pipes of a step; [0] is for reading.
type pipes struct{ request, report, log [2]*os.File }

func (p *pipes) open() error {
	for _, pair := range []*[2]*os.File{&p.request, &p.report, &p.log} {
		var err error
		if pair[0], pair[1], err = os.Pipe(); err != nil {
			return err
		}
	}
	return nil
}

func (p *pipes) close() {
	for _, pair := range [][2]*os.File{p.request, p.report, p.log} {
		for _, f := range pair {
			if f != nil {
				f.Close()
			}
		}
	}
}
