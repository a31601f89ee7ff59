"""Takes device code for other GPUs out of a shared library made by nvcc.

    prune.py IN OUT 90      keep what is for compute capability 9.0

Every object file of such a library has a "fat binary" in section .nv_fatbin: device code for each GPU it was compiled
for, each with a header of its own. A pointer to it lies in section .nvFatBinSegment. Here the fat binaries are made
again without what is for other GPUs, the pointers are set to where they now are, and the rest of the section is taken
out of the file. No address changes but those of fat binaries; the segment that held them becomes two, with a hole
between. Whatever is not as expected ends the program.
"""
import struct
import sys

PAGE = 4096
PT_LOAD, PT_NOTE = 1, 4
R_X86_64_RELATIVE = 8


def want(ok, what):
    if not ok:
        sys.exit("prune: " + what)


class Header:
    """Fields of an ELF table's entry, by name."""

    def __init__(self, form, names, data, at):
        self.form, self.names, self.at = form, names.split(), at
        for n, v in zip(self.names, struct.unpack_from(form, data, at)):
            setattr(self, n, v)

    def bytes(self):
        return struct.pack(self.form, *(getattr(self, n) for n in self.names))


def headers(d):
    """File header, program headers, section headers by name."""
    want(d[:6] == b"\x7fELF\2\1", "not a 64-bit little-endian ELF file")
    f = Header("<HHIQQQIHHHHHH", "type machine version entry phoff shoff flags ehsize phentsize phnum shentsize shnum shstrndx", d, 16)
    ph = [Header("<IIQQQQQQ", "type flags offset vaddr paddr filesz memsz align", d, f.phoff + 56 * i) for i in range(f.phnum)]
    sh = [Header("<IIQQQQIIQQ", "name type flags addr offset size link info align entsize", d, f.shoff + 64 * i) for i in range(f.shnum)]
    names = sh[f.shstrndx].offset
    return f, ph, {d[names + s.name:d.index(b"\0", names + s.name)].decode(): s for s in sh}


def kept(d, at, arch):
    """The fat binary at offset at, with code for arch alone, padded to 8 bytes, and its old length."""
    magic, version, header, size = struct.unpack_from("<IHHQ", d, at)
    want((magic, version, header) == (0xBA55ED50, 1, 16), "offset %#x: not a fat binary" % at)
    at, end, out = at + header, at + header + size, b""
    while at < end:
        kind, _, header, size = struct.unpack_from("<HHIQ", d, at)
        want(kind in (1, 2), "offset %#x: neither PTX nor a program" % at)
        if struct.unpack_from("<I", d, at + 28)[0] == arch:
            out += d[at:at + header + size]
        at += header + size
    want(at == end and out, "a fat binary without code for %d, or damaged" % arch)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(out)) + out + bytes(-len(out) % 8)


def prune(d, arch):
    f, ph, sh = headers(d)
    fat, segment, rela = sh[".nv_fatbin"], sh[".nvFatBinSegment"], sh[".rela.dyn"]
    moved, packed = {}, b""
    for at in range(segment.offset, segment.offset + segment.size, 24):
        magic, version, addr = struct.unpack_from("<IIQ", d, at)
        want((magic, version) == (0x466243B1, 1), "offset %#x: not a pointer to a fat binary" % at)
        want(fat.addr <= addr < fat.addr + fat.size and addr not in moved, "a pointer out of .nv_fatbin")
        moved[addr] = fat.addr + len(packed)
        struct.pack_into("<Q", d, at + 8, moved[addr])
        packed += kept(d, fat.offset + addr - fat.addr, arch)
    found = 0
    for at in range(rela.offset, rela.offset + rela.size, 24):
        where, kind, addend = struct.unpack_from("<QQQ", d, at)
        if kind == R_X86_64_RELATIVE and fat.addr <= addend < fat.addr + fat.size:
            want(addend in moved and segment.addr <= where < segment.addr + segment.size, "another pointer into .nv_fatbin")
            struct.pack_into("<Q", d, at + 16, moved[addend])
            found += 1
    want(found == len(moved), "%d relocations of %d pointers" % (found, len(moved)))
    return cut(d, f, ph, sh, fat, packed)


def cut(d, f, ph, sh, fat, packed):
    """Puts packed at the start of section fat and takes whole pages behind it out of the file."""
    start = -(-(fat.offset + len(packed)) // PAGE) * PAGE
    end = (fat.offset + fat.size) // PAGE * PAGE
    gone = end - start
    want(gone > 0, "nothing to take out")
    loads = [p for p in ph if p.type == PT_LOAD and p.offset <= fat.offset < p.offset + p.filesz]
    want(len(loads) == 1 and loads[0].vaddr - loads[0].offset == fat.addr - fat.offset, "a segment that is not as expected")
    low = loads[0]
    high = Header("<IIQQQQQQ", " ".join(low.names), low.bytes(), 0)
    high.offset, high.vaddr, high.paddr = end, low.vaddr + end - low.offset, low.paddr + end - low.offset
    high.filesz = high.memsz = low.filesz - (end - low.offset)
    low.filesz = low.memsz = start - low.offset
    # The new segment takes the place of the one that names the build id, which is another's now.
    ph.insert(ph.index(low) + 1, high)
    notes = [p for p in ph if p.type == PT_NOTE]
    want(len(notes) == 1, "no segment to give up")
    ph.remove(notes[0])
    fat.size = len(packed)
    for h in ph + list(sh.values()):
        if h.offset >= end:
            h.offset -= gone
    d[fat.offset:start] = packed + bytes(start - fat.offset - len(packed))
    for i, p in enumerate(ph):
        d[f.phoff + 56 * i:f.phoff + 56 * i + 56] = p.bytes()
    for s in sh.values():
        d[s.at:s.at + 64] = s.bytes()
    want(f.shoff >= end, "section headers before the section")
    f.shoff -= gone
    d[16:64] = f.bytes()
    return d[:start] + d[end:]


with open(sys.argv[1], "rb") as i:
    data = prune(bytearray(i.read()), int(sys.argv[3]))
with open(sys.argv[2], "wb") as o:
    o.write(data)
print("prune: %d bytes" % len(data))
