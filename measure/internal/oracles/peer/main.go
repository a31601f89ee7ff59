// Command peer is what internal/bench races tally against: other programs' launch digests, and the bare
// hash loops below which no program can be.
//
//	peer floor KERNEL INITRD FIRMWARE
//	peer tdx-floor KERNEL INITRD FIRMWARE
//	peer sev-snp-measure-go FIRMWARE VCPUS
//	peer gce-tcb-verifier FIRMWARE VCPUS
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"sync"

	"github.com/google/gce-tcb-verifier/sev"
	sgpb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/virtee/sev-snp-measure-go/guest"
	virtee "github.com/virtee/sev-snp-measure-go/ovmf"
	"github.com/virtee/sev-snp-measure-go/vmmtypes"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "floor":
		return floor(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "tdx-floor":
		return tdxFloor(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "sev-snp-measure-go":
		return measureGo(args[1], args[2])
	case len(args) == 3 && args[0] == "gce-tcb-verifier":
		return verifier(args[1], args[2])
	}
	return errors.New("want floor, tdx-floor, sev-snp-measure-go or gce-tcb-verifier with its arguments")
}

// floor hashes kernel and initrd with SHA-256 and every distinct page of the firmware, and its chain, with
// SHA-384: what a launch digest cannot do without. The three run at once.
func floor(kernel, initrd, firmware string) error {
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	for _, name := range []string{kernel, initrd} {
		wg.Go(func() { errs <- hashFile(name, sha256.New()) })
	}
	wg.Go(func() { errs <- hashPages(firmware) })
	wg.Wait()
	return errors.Join(<-errs, <-errs, <-errs)
}

// tdxFloor hashes the initrd with SHA-384 on one core, and on another the kernel and what enters MRTD of a firmware that
// is measured whole: a block for each page, and for each 256 bytes a block and the bytes. No RTMR and MRTD can do
// with less.
func tdxFloor(kernel, initrd, firmware string) error {
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	wg.Go(func() { errs <- hashFile(initrd, sha512.New384()) })
	wg.Go(func() { errs <- errors.Join(hashFile(kernel, sha512.New384()), hashChunks(firmware)) })
	wg.Wait()
	return errors.Join(<-errs, <-errs)
}

func hashChunks(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha512.New384()
	var page [4096]byte
	var call [128]byte
	for {
		if _, err := io.ReadFull(f, page[:]); err == io.EOF {
			fmt.Printf("%x\n", h.Sum(nil))
			return nil
		} else if err != nil {
			return err
		}
		h.Write(call[:])
		for i := 0; i < len(page); i += 256 {
			h.Write(call[:])
			h.Write(page[i : i+256])
		}
	}
}

func hashFile(name string, h hash.Hash) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 64<<10)); err != nil {
		return err
	}
	fmt.Printf("%x\n", h.Sum(nil))
	return nil
}

func hashPages(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var page, last [4096]byte
	var sum, chain [48]byte
	var info [0x70]byte
	for {
		if _, err := io.ReadFull(f, page[:]); err == io.EOF {
			fmt.Printf("%x\n", chain)
			return nil
		} else if err != nil {
			return err
		}
		if !bytes.Equal(page[:], last[:]) {
			sum, last = sha512.Sum384(page[:]), page
		}
		copy(info[:], chain[:])
		copy(info[48:], sum[:])
		chain = sha512.Sum384(info[:])
	}
}

func measureGo(firmware, vcpus string) error {
	n, err := strconv.Atoi(vcpus)
	if err != nil {
		return err
	}
	o, err := virtee.New(firmware)
	if err != nil {
		return err
	}
	hash, err := guest.OVMFHash(o)
	if err != nil {
		return err
	}
	d, err := guest.LaunchDigestFromOVMF(o, 1, n, hash, vmmtypes.QEMU, "EPYC-v4")
	fmt.Printf("%x\n", d)
	return err
}

func verifier(firmware, vcpus string) error {
	n, err := strconv.Atoi(vcpus)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(firmware)
	if err != nil {
		return err
	}
	d, err := sev.LaunchDigest(&sev.LaunchOptions{Vcpus: n, Product: sgpb.SevProduct_SEV_PRODUCT_MILAN}, b)
	fmt.Printf("%x\n", d)
	return err
}
