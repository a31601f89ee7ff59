# Writes simple.igvm after Microsoft's igvm_defs and prints its launch digest, computed by gctx.py of
# sev-snp-measure 8f2b337 (Apache-2.0) after the rules of COCONUT's igvmmeasure. Run with that on PYTHONPATH.
import struct, zlib
from sevsnpmeasure.gctx import GCTX

PAGE = 4096
vmsa = bytearray(PAGE)
struct.pack_into("<Q", vmsa, 0x158, 0x31)  # cr0
struct.pack_into("<Q", vmsa, 0x3B0, 1)  # sev_features
code = [bytes([n]) * PAGE for n in (0x90, 0xF4)]

headers, data, ctx = [], b"", GCTX()
base = 2048  # where the file data starts

def header(typ, body):
    headers.append(struct.pack("<II", typ, len(body)) + body + bytes(-len(body) % 8))

def put(page):
    global data
    data += bytes(page)
    return base + len(data) - PAGE

def page(gpa, off, flags, kind, mask=1):
    header(0x302, struct.pack("<QIIIHH", gpa, mask, off, flags, kind, 0))

header(0x1, struct.pack("<IBBHQ", 1, 0, 2, 1, 0))  # SEV-SNP, mask 1
header(0x1, struct.pack("<IBBHQ", 2, 0, 3, 1, 0))  # TDX, mask 2
header(0x101, struct.pack("<QII", 0x30000, 1, 0))
header(0x301, struct.pack("<QII", 2 * PAGE, 7, 0))
header(0x307, struct.pack("<II", 7, 0))
page(0x100000, put(code[0]), 0, 0); ctx.update_normal_pages(0x100000, code[0])
page(0x101000, put(code[1]), 0, 0); ctx.update_normal_pages(0x101000, code[1])
page(0x101000, put(code[0]), 0, 0, mask=2)  # of the other platform
page(0x102000, 0, 0, 0); ctx.update_normal_pages(0x102000, bytes(PAGE))
page(0x103000, put(code[0]), 2, 0); ctx.update_unmeasured_pages(0x103000, PAGE)
page(0x104000, 0, 0, 1); ctx.update_secrets_page(0x104000)
page(0x105000, 0, 0, 2); ctx.update_cpuid_page(0x105000)
page(0x106000, 0, 0, 3); ctx.update_cpuid_page(0x106000)
header(0x303, struct.pack("<QII", 0x200000, 1, 7)); ctx.update_unmeasured_pages(0x200000, 2 * PAGE)
header(0x304, struct.pack("<QIIHH", 0xFFFFFFFFF000, 1, put(vmsa), 0, 0)); ctx.update_vmsa_page(bytes(vmsa))

variable = b"".join(headers)
total = base + len(data)
fixed = b"IGVM" + struct.pack("<IIIII", 1, 24, len(variable), total, 0)
fixed = fixed[:20] + struct.pack("<I", zlib.crc32(fixed + variable))
out = fixed + variable
open("simple.igvm", "wb").write(out + bytes(base - len(out)) + data)
print(ctx.hex_ld())
