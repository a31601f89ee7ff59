// Command verifier is the init of a test image: it lets the kernel make the dm-verity devices that stand
// described behind the root's hash tree, reads each of them and prints the SHA-256 of what it read.
// TestKernelVerifies knows what that must be.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// A testCase is a verity table over areas behind the head. DATA, HASH and FEC in Table stand for
// devices that map these.
type testCase struct {
	Name    string
	Table   string
	Sectors uint64               // of the verity device
	Areas   map[string][2]uint64 // start and length in sectors

	Signature []byte // of the root hash; nil: none
}

func main() {
	runtime.LockOSThread() // the keys are the thread's
	fmt.Printf("verifier: done, %v\n", run())
	for { // init must not end
		time.Sleep(time.Hour)
	}
}

func run() error {
	text, base, err := head("/dev/vda3")
	if err != nil {
		return err
	}
	var cases []testCase
	if err := json.Unmarshal(text, &cases); err != nil {
		return err
	}
	partition, err := os.ReadFile("/sys/class/block/vda3/dev")
	if err != nil {
		return err
	}
	for i, c := range cases {
		digest, err := c.read(fmt.Sprintf("case%d", i), base, strings.TrimSpace(string(partition)))
		fmt.Printf("verifier: %s: %s, %v\n", c.Name, digest, err)
	}
	return nil
}

// head finds the cases in a device, and says in which of its sectors.
func head(name string) (text []byte, base uint64, err error) {
	const size, magic = 16 << 10, "tally e2e verity cases\n"
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	b := make([]byte, size)
	for off := int64(0); ; off += 4096 {
		if _, err := f.ReadAt(b, off); err != nil {
			return nil, 0, fmt.Errorf("%s: no cases: %w", name, err)
		}
		if strings.HasPrefix(string(b), magic) {
			return b[len(magic):], uint64(off) / 512, nil
		}
	}
}

// read makes the device and its parts, and hashes what the kernel lets it read.
func (c testCase) read(name string, base uint64, partition string) (string, error) {
	table := c.Table
	for area, at := range c.Areas {
		dev, err := device(name+area, "linear", at[1], fmt.Sprintf("%s %d", partition, base+at[0]))
		if err != nil {
			return "", fmt.Errorf("%s: %w", area, err)
		}
		table = strings.ReplaceAll(table, area, dev)
	}
	if c.Signature != nil {
		if err := addKey(name, c.Signature); err != nil {
			return "", err
		}
		table += " 2 root_hash_sig_key_desc " + name
	}
	dev, err := device(name, "verity", c.Sectors, table)
	if err != nil {
		return "", err
	}
	node, err := node(dev)
	if err != nil {
		return "", err
	}
	f, err := os.Open(node)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// addKey makes a key of type "user" in the thread's keyring (add_key(2)), where the table's description finds it.
func addKey(description string, payload []byte) error {
	kind, desc := append([]byte("user"), 0), append([]byte(description), 0)
	const threadKeyring = ^uintptr(0) // KEY_SPEC_THREAD_KEYRING, -1
	_, _, e := syscall.Syscall6(syscall.SYS_ADD_KEY, uintptr(unsafe.Pointer(&kind[0])), uintptr(unsafe.Pointer(&desc[0])),
		uintptr(unsafe.Pointer(&payload[0])), uintptr(len(payload)), threadKeyring, 0)
	if e != 0 {
		return fmt.Errorf("add_key: %w", e)
	}
	return nil
}

// The device-mapper ioctls (Linux, include/uapi/linux/dm-ioctl.h): create, load a table, resume.
var calls = []uintptr{0xc138fd03, 0xc138fd09, 0xc138fd06}

// device makes a read-only device of one target and returns its MAJOR:MINOR.
func device(name, target string, sectors uint64, params string) (string, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	dev := uint64(0)
	for i, call := range calls {
		b := request(name, target, sectors, params, i == 1)
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, control.Fd(), call, uintptr(unsafe.Pointer(&b[0]))); e != 0 {
			return "", fmt.Errorf("device-mapper step %d, %q: %w", i, params, e)
		}
		dev = binary.LittleEndian.Uint64(b[40:])
	}
	return fmt.Sprintf("%d:%d", dev>>8&0xfff, dev&0xff|dev>>12&0xfff00), nil
}

// request is struct dm_ioctl, with struct dm_target_spec behind it for a table.
func request(name, target string, sectors uint64, params string, table bool) []byte {
	le := binary.LittleEndian
	b := make([]byte, 312+(40+len(params)+8)&^7)
	le.PutUint32(b[0:], 4)
	le.PutUint32(b[12:], uint32(len(b)))
	le.PutUint32(b[16:], 312)
	le.PutUint32(b[28:], 1) // read-only
	copy(b[48:175], name)
	if table {
		le.PutUint32(b[20:], 1)
		le.PutUint64(b[320:], sectors)
		le.PutUint32(b[332:], uint32(len(b)-312))
		copy(b[336:351], target)
		copy(b[352:], params)
	}
	return b
}

// node waits for the device's node.
func node(dev string) (string, error) {
	for range 1000 {
		if link, err := os.Readlink("/sys/dev/block/" + dev); err == nil {
			if path := filepath.Join("/dev", filepath.Base(link)); exists(path) {
				return path, nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", fmt.Errorf("device %s: no node", dev)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
