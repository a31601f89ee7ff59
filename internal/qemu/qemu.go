// Package qemu boots built images in QEMU on this machine and says how each boot ended.
//
// A boot is for trying and for tests: it proves what firmware, kernel and hash tree do with an image, and
// nothing about confidentiality. The disk is opened read-only, so a boot never changes an image. The
// guest reaches nothing outside; chosen ports of 127.0.0.1 lead to it. Software emulation (TCG) is the
// rule, because /dev/kvm exists on many machines that cannot run a stock kernel: see [Probe].
package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Binary is the program's name; Package is the Debian package that has it.
const (
	Binary  = "qemu-system-x86_64"
	Package = "qemu-system-x86"
)

// ErrMissing says that QEMU is not installed.
var ErrMissing = errors.New(Binary + " is not installed")

// Find returns the path of QEMU, or ErrMissing.
func Find() (string, error) {
	p, err := exec.LookPath(Binary)
	if err != nil {
		return "", ErrMissing
	}
	return p, nil
}

// An Accel is how the guest's instructions are run.
type Accel string

// TCG is software emulation; KVM uses /dev/kvm.
const (
	TCG Accel = "tcg"
	KVM Accel = "kvm"
)

// A Forward leads a TCP port of 127.0.0.1 to one of the guest.
type Forward struct{ Host, Guest uint16 }

// ParseForward reads HOSTPORT:GUESTPORT, both from 1 to 65535.
func ParseForward(s string) (Forward, error) {
	h, g, ok := strings.Cut(s, ":")
	host, err := strconv.ParseUint(h, 10, 16)
	guest, err2 := strconv.ParseUint(g, 10, 16)
	if !ok || err != nil || err2 != nil || host == 0 || guest == 0 {
		return Forward{}, fmt.Errorf("%.80q: want HOSTPORT:GUESTPORT, each from 1 to 65535", s)
	}
	return Forward{uint16(host), uint16(guest)}, nil
}

// A Machine is one virtual machine. Exactly one of Firmware alone (it finds the UKI on the disk) and
// Kernel with Initrd and Cmdline (direct boot, with Firmware or QEMU's own) is the way to boot.
type Machine struct {
	QEMU     string // path of the program
	Accel    Accel
	MemoryMB int // MiB, 128 to 65536
	CPUs     int // 1 to 64

	Firmware string   // file for -bios; "" with Kernel: QEMU's own
	Flash    bool     // Firmware is a flash chip with the variable store in it; what is written there is lost with the machine
	Kernel   string   // file; "" for a boot from the disk
	Initrd   string   // file
	Cmdline  string   // the words themselves
	Disk     string   // file, raw; "" for none
	Volumes  []string // further disks, files, raw, at most 16
	Forwards []Forward
	TPM      string // control socket of a software TPM; "" for none
}

// maxVolumes is how many disks beside the first are attached.
const maxVolumes = 16

// Args returns QEMU's command line without the program.
func (m Machine) Args() ([]string, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	args := []string{
		"-accel", map[Accel]string{TCG: "tcg,thread=multi", KVM: "kvm"}[m.Accel],
		"-machine", "q35", "-cpu", map[Accel]string{TCG: "max", KVM: "host"}[m.Accel],
		"-smp", strconv.Itoa(m.CPUs), "-m", strconv.Itoa(m.MemoryMB),
		// No devices but those named here, no user's configuration file, and a restart is an end.
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
	}
	switch {
	case m.Flash: // from a ROM, OVMF takes no variables
		args = append(args, "-drive", "if=pflash,format=raw,snapshot=on,file="+escape(m.Firmware))
	case m.Firmware != "":
		args = append(args, "-bios", m.Firmware)
	}
	if m.Kernel != "" {
		args = append(args, "-kernel", m.Kernel, "-append", m.Cmdline)
	}
	if m.Initrd != "" {
		args = append(args, "-initrd", m.Initrd)
	}
	if m.Disk != "" {
		args = append(args, "-drive", "if=none,id=disk,format=raw,readonly=on,file="+escape(m.Disk), "-device", "virtio-blk-pci,drive=disk")
	}
	for i, file := range m.Volumes {
		id := fmt.Sprintf("volume%d", i)
		args = append(args, "-drive", "if=none,id="+id+",format=raw,readonly=on,file="+escape(file), "-device", "virtio-blk-pci,drive="+id)
	}
	if m.TPM != "" {
		args = append(args, "-chardev", "socket,id=tpm,path="+escape(m.TPM), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	net := "user,id=net,restrict=on"
	for _, f := range m.Forwards {
		net += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	// romfile=: no option ROM, which would be firmware that nobody chose.
	return append(args, "-netdev", net, "-device", "virtio-net-pci,netdev=net,romfile="), nil
}

// escape doubles the commas of a value in a comma-separated list.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func (m Machine) check() error {
	switch {
	case m.QEMU == "":
		return ErrMissing
	case m.Accel != TCG && m.Accel != KVM:
		return fmt.Errorf("accelerator %q: want tcg or kvm", m.Accel)
	case m.MemoryMB < 128 || m.MemoryMB > 65536:
		return fmt.Errorf("memory %d MiB: want 128 to 65536", m.MemoryMB)
	case m.CPUs < 1 || m.CPUs > 64:
		return fmt.Errorf("cpus %d: want 1 to 64", m.CPUs)
	case m.Kernel == "" && m.Firmware == "":
		return errors.New("neither firmware nor kernel: nothing to boot")
	case m.Flash && m.Firmware == "":
		return errors.New("flash without a firmware")
	case m.Kernel == "" && (m.Initrd != "" || m.Cmdline != ""):
		return errors.New("initrd or command line without a kernel")
	}
	if len(m.Volumes) > maxVolumes {
		return fmt.Errorf("%d volumes, want at most %d", len(m.Volumes), maxVolumes)
	}
	for _, file := range append([]string{m.Firmware, m.Kernel, m.Initrd, m.Disk}, m.Volumes...) {
		if file == "" {
			continue
		}
		if fi, err := os.Stat(file); err != nil {
			return err
		} else if !fi.Mode().IsRegular() {
			return fmt.Errorf("%s: not a file", file)
		}
	}
	seen := map[uint16]bool{}
	for _, f := range m.Forwards {
		if seen[f.Host] {
			return fmt.Errorf("forward: port %d of this machine stands twice", f.Host)
		}
		seen[f.Host] = true
	}
	return nil
}
