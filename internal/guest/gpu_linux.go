package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A device is one of the GPU driver's character devices.
type device struct {
	name         string
	major, minor uint32
	engine       bool // the engine has it too
}

// Numbers of the driver's that are fixed (kernel-open/common/inc/nv.h and nv-chardev-numbers.h of its source).
const (
	nvidiaMajor  = 195
	controlMinor = 255
)

// gpuDevices lists the devices that the driver has, by what it says below root's /proc (root is "" in a guest). It makes no
// nodes for them itself: the vendor's set-user-ID helper would.
func gpuDevices(root string) ([]device, error) {
	minors, err := gpuMinors(root)
	if err != nil {
		return nil, err
	}
	if len(minors) == 0 {
		return nil, errors.New("the driver has no GPU: none is attached, or the driver is not loaded")
	}
	all := []device{{"nvidiactl", nvidiaMajor, controlMinor, true}}
	for _, n := range minors {
		all = append(all, device{fmt.Sprintf("nvidia%d", n), nvidiaMajor, n, true})
	}
	uvm, err := majorOf(root, "nvidia-uvm")
	if err != nil {
		return nil, err
	}
	all = append(all, device{"nvidia-uvm", uvm, 0, true})
	switches, err := filepath.Glob(root + "/proc/driver/nvidia-nvswitch/devices/*")
	if err != nil || len(switches) == 0 {
		return all, err
	}
	major, err := majorOf(root, "nvidia-nvswitch")
	if err != nil {
		return nil, err
	}
	all = append(all, device{"nvidia-nvswitchctl", major, controlMinor, false})
	for n := range switches {
		all = append(all, device{fmt.Sprintf("nvidia-nvswitch%d", n), major, uint32(n), false})
	}
	return all, nil
}

// gpuMinors reads "Device Minor: 0" from each GPU's page.
func gpuMinors(root string) (minors []uint32, err error) {
	pages, err := filepath.Glob(root + "/proc/driver/nvidia/gpus/*/information")
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		_, rest, found := strings.Cut(string(text), "Device Minor:")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 8)
		if !found || err != nil || n == controlMinor || slices.Contains(minors, uint32(n)) {
			return nil, fmt.Errorf("%s: device minor %.20q: want a number of its own below 255", page, line)
		}
		minors = append(minors, uint32(n))
	}
	return minors, nil
}

// majorOf looks a driver's number up among the character devices of /proc/devices.
func majorOf(root, driver string) (uint32, error) {
	f, err := os.Open(root + "/proc/devices")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan() && s.Text() != "Block devices:"; {
		number, name, _ := strings.Cut(strings.TrimSpace(s.Text()), " ")
		if name == driver {
			n, err := strconv.ParseUint(number, 10, 12)
			return uint32(n), err
		}
	}
	return 0, fmt.Errorf("/proc/devices: no %s: its module is not loaded", driver)
}

// makeNodes makes devices in dir with the mode, whatever the umask.
func makeNodes(dir string, all []device, mode uint32) error {
	for _, d := range all {
		path := filepath.Join(dir, d.name)
		if err := unix.Mknod(path, unix.S_IFCHR|mode, int(unix.Mkdev(d.major, d.minor))); err != nil && !errors.Is(err, fs.ErrExist) {
			return &os.PathError{Op: "mknod", Path: path, Err: err}
		}
		if err := os.Chmod(path, fs.FileMode(mode)); err != nil {
			return err
		}
	}
	return nil
}

// OpenGPUs makes the nodes of the driver's devices in /dev, for this process alone, and holds every GPU open until the
// returned function is called: a GPU that nobody has open is shut down by the driver, and with it goes its ready state.
func OpenGPUs() (release func(), err error) {
	all, err := gpuDevices("")
	if err == nil {
		err = makeNodes("/dev", all, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("gpu: %w", err)
	}
	var open []*os.File
	release = func() {
		for _, f := range open {
			f.Close()
		}
	}
	for _, d := range all {
		if d.major != nvidiaMajor || d.minor == controlMinor {
			continue
		}
		f, err := os.OpenFile("/dev/"+d.name, os.O_RDWR, 0)
		if err != nil {
			release()
			return nil, fmt.Errorf("gpu: %w", err)
		}
		open = append(open, f)
	}
	return release, nil
}
