// Package uki appends sections to the systemd stub: a unified kernel image, as ukify writes it.
package uki

import "errors"

// Sections are the parts of a unified kernel image. Linux is required; an empty part gets no section.
type Sections struct {
	OSRelease []byte // .osrel: os-release text
	Cmdline   []byte // .cmdline: without trailing newline or NUL
	Uname     []byte // .uname: the kernel release
	Linux     []byte // .linux: the kernel, a PE file itself
	Initrd    []byte // .initrd: cpio
	SBAT      []byte // .sbat CSV lines to merge with the stub's; empty: the stub's alone
}

// Assemble returns stub with the sections of s appended.
func Assemble(stub []byte, s Sections) ([]byte, error) { return nil, errors.New("uki: not written yet") }
