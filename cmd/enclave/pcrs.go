//go:build linux

package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// pcrDir is where the kernel shows the SHA-256 bank of a TPM, if the machine has one.
const pcrDir = "/sys/class/tpm/tpm0/pcr-sha256"

// The event log that firmware and stub kept beside the registers, the most of it that is printed, and how
// much a line of the console takes (its readers cut lines at 4096).
const (
	eventLogFile = "/sys/kernel/security/tpm0/binary_bios_measurements"
	maxEventLog  = 256 << 10
	logLine      = 3000
)

// printEventLog puts the event log on the console, for `tally measure pcr --log`: base64, in lines.
func printEventLog() {
	f, err := os.Open(eventLogFile)
	if err != nil {
		return
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEventLog))
	if err != nil {
		return
	}
	for text := base64.StdEncoding.EncodeToString(data); text != ""; {
		n := min(logLine, len(text))
		fmt.Printf("tally-enclave: eventlog %s\n", text[:n])
		text = text[n:]
	}
}

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
