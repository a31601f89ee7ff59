//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pcrDir is where the kernel shows the SHA-256 bank of a TPM, if the machine has one.
const pcrDir = "/sys/class/tpm/tpm0/pcr-sha256"

// printPCRs puts the registers of the boot on the console, in the form of `tally measure pcr`. They are no
// secret, and no evidence either: nobody signed them.
func printPCRs() {
	for n := range 16 {
		value, err := os.ReadFile(filepath.Join(pcrDir, fmt.Sprint(n)))
		if err != nil {
			return
		}
		fmt.Printf("tally-enclave: pcr%d sha256 %s\n", n, strings.ToLower(strings.TrimSpace(string(value))))
	}
}
