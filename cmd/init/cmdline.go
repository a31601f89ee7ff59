//go:build linux && amd64

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	blockSize  = 4096
	maxCmdline = 2048 // bytes with the newline that /proc adds; COMMAND_LINE_SIZE of x86
	maxSalt    = 256  // bytes
	maxBlocks  = 1<<51 - 1
)

// A cmdline is what the measured command line says about the root.
type cmdline struct {
	RootHash   string // 64 lower-case hex digits
	DataBlocks uint64 // of 4096 bytes, at least 1
	HashStart  uint64 // first block of the tree in the hash partition
	Salt       string // lower-case hex, or "-" for none
	Scrub      bool   // read every data block before the root is used
}

func readCmdline(path string) (cmdline, error) {
	f, err := os.Open(path)
	if err != nil {
		return cmdline{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCmdline+1))
	if err != nil {
		return cmdline{}, err
	}
	return parseCmdline(string(b))
}

// parseCmdline reads
//
//	roothash=HEX tally.verity=1,sha256,4096,4096,DATABLOCKS,HASHSTART,SALT|- tally.scrub=0|1
//
// in any order among words of others. Each of the three stands exactly once, since a word that a host
// managed to add must never win over the builder's or go unnoticed; for the same reason an unknown
// tally.* word is refused, and so is a quote, with which the kernel would see other words than we do.
func parseCmdline(s string) (cmdline, error) {
	s = strings.TrimSuffix(s, "\n")
	if len(s) >= maxCmdline {
		return cmdline{}, fmt.Errorf("command line: %d bytes or more, want at most %d", len(s), maxCmdline-1)
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e || s[i] == '"' {
			return cmdline{}, fmt.Errorf("command line: byte 0x%02x at %d: want printable ASCII without quotes", s[i], i)
		}
	}
	var c cmdline
	seen := map[string]int{}
	for _, w := range strings.Split(s, " ") {
		key, value, _ := strings.Cut(w, "=")
		parse := c.parser(key)
		if parse == nil {
			if strings.HasPrefix(key, "tally.") {
				return cmdline{}, fmt.Errorf("command line: unknown word %.80q", key)
			}
			continue
		}
		if seen[key]++; seen[key] > 1 {
			return cmdline{}, fmt.Errorf("command line: %s= stands there more than once, want exactly one", key)
		}
		if err := parse(value); err != nil {
			return cmdline{}, fmt.Errorf("command line: %s: %w", key, err)
		}
	}
	for _, key := range []string{"roothash", "tally.verity", "tally.scrub"} {
		if seen[key] == 0 {
			return cmdline{}, fmt.Errorf("command line: no %s=, want exactly one", key)
		}
	}
	return c, nil
}

// parser returns what reads the value of key; nil for the words of others.
func (c *cmdline) parser(key string) func(string) error {
	switch key {
	case "roothash":
		return c.parseRootHash
	case "tally.verity":
		return c.parseVerity
	case "tally.scrub":
		return c.parseScrub
	}
	return nil
}

func (c *cmdline) parseRootHash(v string) error {
	if len(v) != 64 || !lowerHex(v) {
		return fmt.Errorf("%.80q: want 64 lower-case hex digits", v)
	}
	c.RootHash = v
	return nil
}

func (c *cmdline) parseVerity(v string) (err error) {
	f := strings.Split(v, ",")
	if len(f) != 7 {
		return fmt.Errorf("%.80q: %d fields, want 1,sha256,4096,4096,DATABLOCKS,HASHSTART,SALT", v, len(f))
	}
	if head := strings.Join(f[:4], ","); head != "1,sha256,4096,4096" {
		return fmt.Errorf("%.80q: want 1,sha256,4096,4096", head)
	}
	if c.DataBlocks, err = decimal(f[4], 1); err != nil {
		return fmt.Errorf("data blocks: %w", err)
	}
	if c.HashStart, err = decimal(f[5], 0); err != nil {
		return fmt.Errorf("hash start: %w", err)
	}
	if salt := f[6]; salt != "-" && (salt == "" || len(salt) > 2*maxSalt || len(salt)%2 != 0 || !lowerHex(salt)) {
		return fmt.Errorf("salt %.80q: want 1 to %d bytes in lower-case hex, or -", salt, maxSalt)
	}
	c.Salt = f[6]
	return nil
}

func (c *cmdline) parseScrub(v string) error {
	if v != "0" && v != "1" {
		return fmt.Errorf("%.80q: want 0 or 1", v)
	}
	c.Scrub = v == "1"
	return nil
}

var errDecimal = errors.New("want a plain decimal number")

// decimal reads a number in its only spelling: no sign, no leading zero.
func decimal(s string, least uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.80q: %w", s, errDecimal)
	}
	if n < least || n > maxBlocks {
		return 0, fmt.Errorf("%d: want %d to %d", n, least, uint64(maxBlocks))
	}
	return n, nil
}

// lowerHex wants an even number of digits.
func lowerHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && s == strings.ToLower(s)
}

// table returns the parameters of the dm-verity target (Linux,
// Documentation/admin-guide/device-mapper/verity.rst) over the devices data and hash, each MAJOR:MINOR.
func (c cmdline) table(data, hash string, flags ...string) string {
	t := fmt.Sprintf("1 %s %s %d %d %d %d sha256 %s %s", data, hash, blockSize, blockSize, c.DataBlocks, c.HashStart, c.RootHash, c.Salt)
	if len(flags) > 0 {
		t += fmt.Sprintf(" %d %s", len(flags), strings.Join(flags, " "))
	}
	return t
}

// oneLine makes text safe and short enough for one console line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), 1000)]
}
