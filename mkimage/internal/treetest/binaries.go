package treetest

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"strings"
)

// Module is a kernel module with nothing in it but .modinfo.
func Module(modinfo ...string) []byte {
	const ehsize, shsize = 64, 64
	names := "\x00.modinfo\x00.shstrtab\x00"
	info := strings.Join(modinfo, "\x00") + "\x00"
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: uint64(ehsize + len(info) + len(names)), Ehsize: ehsize, Shentsize: shsize, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	return encode(&h, []byte(info), []byte(names), &elf.Section64{},
		&elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: ehsize, Size: uint64(len(info))},
		&elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: ehsize + uint64(len(info)), Size: uint64(len(names))})
}

// PE is an x86-64 EFI application that does nothing, of the given sections (name, contents), laid out as a
// stub to which more can be appended.
func PE(nx bool, sections ...[2]string) []byte {
	const header, fileAlign, align = 1536, 512, 4096
	up := func(n, unit int) uint32 { return uint32((n + unit - 1) / unit * unit) }
	opt := pe.OptionalHeader64{Magic: 0x20b, SizeOfInitializedData: 0x5164, AddressOfEntryPoint: align, SectionAlignment: align, FileAlignment: fileAlign,
		SizeOfHeaders: header, CheckSum: 0x12345678, Subsystem: pe.IMAGE_SUBSYSTEM_EFI_APPLICATION, NumberOfRvaAndSizes: 16}
	if nx {
		opt.DllCharacteristics = 0x160
	}
	var table []any
	var body []byte
	next := uint32(align)
	for _, s := range sections {
		h := pe.SectionHeader32{VirtualSize: uint32(len(s[1])), VirtualAddress: next, SizeOfRawData: up(len(s[1]), fileAlign), PointerToRawData: header + uint32(len(body)), Characteristics: 0x40000040}
		copy(h.Name[:], s[0])
		table = append(table, &h)
		body = append(append(body, s[1]...), make([]byte, int(h.SizeOfRawData)-len(s[1]))...)
		next = up(int(next)+len(s[1]), align)
	}
	opt.SizeOfImage = next
	dos := make([]byte, 0x80)
	copy(dos, "MZ")
	dos[0x3c] = 0x80
	coff := pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections)), TimeDateStamp: 1776109085, SizeOfOptionalHeader: uint16(binary.Size(opt)), Characteristics: 0x22e}
	head := encode(append([]any{dos, []byte("PE\x00\x00"), &coff, &opt}, table...)...)
	return append(append(head, make([]byte, header-len(head))...), body...)
}

// encode joins fixed-size values in little-endian order.
func encode(vs ...any) []byte {
	var b bytes.Buffer
	for _, v := range vs {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}
