//go:build linux && amd64

// Command init is /init of the initrd: it turns the measured kernel command line into a verified root
// file system and hands over to it.
//
//  1. mount /proc, /sys and /dev; make every kernel panic end the machine
//  2. read the command line (see parseCmdline): one root hash and every parameter of the hash tree
//  3. load the modules that the file /modules lists, in its order
//  4. find the partitions whose PARTUUIDs are the halves of the root hash
//  5. open them with dm-verity, which stops the machine at the first block that is not as measured
//  6. with tally.scrub=1, read every block before anything is used
//  7. mount the root (EROFS, read-only, nodev)
//  8. find the model volumes that the root's /etc/tally/models names by the PARTUUIDs that stand there, open
//     them with dm-verity by the root hashes that stand there, and mount them
//  9. empty the initramfs, execute /sbin/init
//
// What the host controls (disks, partition tables, devices that never appear) is read strictly and
// proves nothing: only the root hash does, and it is measured with the command line. The verity
// superblock is not read at all. There is no shell and no second try: any failure prints one line,
// `tally-init: refused: REASON`, and powers the machine off.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	prefix     = "tally-init: "
	diskWait   = 30 * time.Second // for a host's disks to appear
	newRoot    = "/root"
	rootInit   = "/sbin/init"
	moduleList = "/modules"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, prefix+"this is /init of an initrd, not a command to run")
		os.Exit(2)
	}
	refuse(boot())
}

// boot returns only on failure.
func boot() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v at %s", r, debug.Stack())
		}
	}()
	if err := mountKernelFiles(); err != nil {
		return err
	}
	openConsole()
	c, err := readCmdline("/proc/cmdline")
	if err != nil {
		return err
	}
	say("root hash %s", c.RootHash)
	n, err := loadModules(moduleList)
	if err != nil {
		return err
	}
	say("%d modules loaded", n)
	dev, err := openVolume(dmRoot, c, rootPartUUIDs(c.RootHash))
	if err != nil {
		return err
	}
	if c.Scrub {
		if err := scrub(dev, c.DataBlocks*blockSize, say); err != nil {
			return err
		}
	}
	return handOver(dev)
}

// openVolume finds the two partitions of a volume and opens them as one verified device. That they were
// found proves nothing: c's root hash does, when the kernel reads them.
func openVolume(name string, c cmdline, ids partUUIDs) (dev string, err error) {
	data, hash, err := waitForPartitions(sysfs, ids, diskWait)
	if err != nil {
		return "", err
	}
	if need := c.DataBlocks * blockSize; data.Bytes < need {
		return "", fmt.Errorf("partition %s: %d bytes, want at least %d for %d blocks", data.Name, data.Bytes, need, c.DataBlocks)
	}
	if dev, err = openVerity(name, c, data.Dev, hash.Dev); err == nil {
		say("%s: verity on %s and %s: %d blocks", name, data.Name, hash.Name, c.DataBlocks)
	}
	return dev, err
}

// say prints one line on the console.
func say(format string, args ...any) { fmt.Printf(prefix+format+"\n", args...) }

// refuse says why and ends the machine. Should the firmware not power off, the process ends, which is a
// kernel panic, which (panic=-1) is a restart.
func refuse(err error) {
	if err == nil {
		err = errors.New("internal error: nothing left to do")
	}
	fmt.Println(prefix + "refused: " + oneLine(err.Error()))
	time.Sleep(100 * time.Millisecond) // for a slow serial line
	syscall.Sync()
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	os.Exit(1)
}
