"""Layout v1 once more, from mkimage/SPEC.md alone: the oracle of TestLayout.

usage: layout.py DIR. Reads DIR/inputs.json, writes initrd, cmdline, uki.efi, disk.raw and model volumes there.
It is slow and checks nothing; section numbers are those of SPEC.md."""
import hashlib, json, struct, sys, time, uuid

H = lambda b: hashlib.sha256(b).digest()
u8, u16, u32, u64 = (lambda v, f=f: struct.pack(f, v) for f in ("<B", "<H", "<I", "<Q"))
MIB, BLOCK = 1 << 20, 4096
up = lambda n, unit: -(-n // unit) * unit
pad = lambda b, unit: b + bytes(up(len(b), unit) - len(b))
DIR, FILE, LINK, HARD, CHAR, BLK, FIFO = range(1, 8)
FMT = {FIFO: 0o010000, CHAR: 0o020000, DIR: 0o040000, BLK: 0o060000, FILE: 0o100000, LINK: 0o120000}


def v8(digest):
    b = bytearray(digest[:16])
    b[6], b[8] = b[6] & 0x0F | 0x80, b[8] & 0x3F | 0x80
    return bytes(b)


def derive(purpose, *parts):
    return H(b"tally " + purpose + b" v1\0" + b"".join(b"%d\0" % len(p) + p for p in parts))


def put(b, *fields):
    for off, value in fields:
        b[off:off + len(value)] = value
    return b


# 1. The tree: a dict of dicts by path; every path and text is bytes.
def tree(entries, epoch):
    t = {}
    for e in entries:
        e = {"mode": 0, "uid": 0, "gid": 0, "mtime": 0, "major": 0, "minor": 0, "link": "", "xattrs": {}, "data": "", **e}
        e["time"] = max(0, min(e["mtime"], epoch))
        if e["kind"] not in (CHAR, BLK):
            e["major"] = e["minor"] = 0
        e["data"], e["link"] = bytes.fromhex(e["data"]), bytes.fromhex(e["link"])
        e["xattrs"] = {n.encode(): bytes.fromhex(v) for n, v in e["xattrs"].items()}
        t[bytes.fromhex(e["path"])] = e
    for path in list(t):
        while path:
            path = path.rpartition(b"/")[0]
            t.setdefault(path, {"kind": DIR, "mode": 0o755, "uid": 0, "gid": 0, "time": 0, "major": 0, "minor": 0, "link": b"", "xattrs": {}, "data": b""})
    return dict(sorted(t.items()))


def tree_digest(t):
    s = lambda b: u64(len(b)) + b
    out = [s(b"tally tree v1")]
    for path, e in t.items():
        own = [0] * 7 if e["kind"] == HARD else [e["mode"], e["uid"], e["gid"], e["time"], len(e["data"]), e["major"], e["minor"]]
        out += [s(path)] + [u64(v) for v in [e["kind"]] + own] + [s(e["link"])]
        out += [H(e["data"]) if e["kind"] == FILE else bytes(32), u64(len(e["xattrs"]))]
        out += [s(n) + s(v) for n, v in sorted(e["xattrs"].items())]
    return H(b"".join(out))


def names(t):
    """How many names each file has, and 2 + subdirectories for each directory."""
    n = {p: 2 if e["kind"] == DIR else 1 for p, e in t.items() if e["kind"] != HARD}
    for p, e in t.items():
        if e["kind"] == HARD:
            n[e["link"]] += 1
        elif e["kind"] == DIR and p:
            n[p.rpartition(b"/")[0]] += 1
    return n


# 2. EROFS
def xattrs(e):
    if not e["xattrs"]:
        return b""
    prefixes = {b"user.": 1, b"system.posix_acl_access": 2, b"system.posix_acl_default": 3, b"trusted.": 4, b"security.": 6}
    b = bytes(12)
    for name, value in sorted(e["xattrs"].items()):
        prefix = next(p for p in prefixes if name.startswith(p))
        rest = name[len(prefix):]
        b = pad(b + u8(len(rest)) + u8(prefixes[prefix]) + u16(len(value)) + rest + value, 4)
    return b


def dir_blocks(children):
    """children: sorted (name, path); returns lists of them, one a block."""
    blocks, used = [[]], 0
    for c in children:
        need = 12 + len(c[0])
        if used + need > BLOCK:
            blocks, used = blocks + [[]], 0
        blocks[-1].append(c)
        used += need
    return blocks


def erofs(t, epoch, label):
    nodes = {p: dict(e) for p, e in t.items() if e["kind"] != HARD}
    links, target = names(t), lambda p: t[p]["link"] if t[p]["kind"] == HARD else p
    kids = {p: [(b".", p), (b"..", p.rpartition(b"/")[0])] for p, n in nodes.items() if n["kind"] == DIR}
    for p in t:
        if p:
            kids[p.rpartition(b"/")[0]].append((p.rpartition(b"/")[2], target(p)))
    off = BLOCK
    for p, n in nodes.items():
        n["x"] = xattrs(n)
        if n["kind"] == DIR:
            n["blocks"] = dir_blocks(sorted(kids[p]))
            last = sum(12 + len(c[0]) for c in n["blocks"][-1])
            n["size"] = (len(n["blocks"]) - 1) * BLOCK + last
            tail = n["size"] % BLOCK
        else:
            n["bytes"] = n["data"] if n["kind"] == FILE else n["link"] if n["kind"] == LINK else b""
            n["size"] = tail = len(n["bytes"])
        n["inline"] = tail if 0 < tail <= 2048 and 64 + len(n["x"]) + tail <= BLOCK else 0
        need = 64 + len(n["x"]) + n["inline"]
        if off % BLOCK + need > BLOCK:
            off = up(off, BLOCK)
        n["off"] = off
        off = up(off + need, 32)
    block = up(off, BLOCK) // BLOCK
    for want_dir in True, False:
        for n in nodes.values():
            if (n["kind"] == DIR) == want_dir:
                n["first"] = block if n["size"] > n["inline"] else 0
                block += up(n["size"] - n["inline"], BLOCK) // BLOCK
    for n in nodes.values():
        if n["kind"] == DIR:
            bs = []
            for kids in n["blocks"]:
                head, text, at = b"", b"", 12 * len(kids)
                for name, path in kids:
                    kind = {FILE: 1, DIR: 2, CHAR: 3, BLK: 4, FIFO: 5, LINK: 7}[nodes[path]["kind"]]
                    head += u64(nodes[path]["off"] // 32) + u16(at + len(text)) + bytes([kind, 0])
                    text += name
                bs.append(head + text)
            n["bytes"] = b"".join(pad(b, BLOCK) for b in bs[:-1]) + bs[-1]
    image = bytearray(block * BLOCK)
    for i, (p, n) in enumerate(nodes.items()):
        device = n["minor"] & 0xFF | n["major"] << 8 | (n["minor"] & ~0xFF) << 12
        inode = put(bytearray(64), (0, u16(5 if n["inline"] else 1)), (2, u16((len(n["x"]) - 12) // 4 + 1 if n["x"] else 0)),
                    (4, u16(FMT[n["kind"]] | n["mode"])), (8, u64(n["size"])), (16, u32(device if n["kind"] in (CHAR, BLK) else n["first"])),
                    (20, u32(i + 1)), (24, u32(n["uid"])), (28, u32(n["gid"])), (32, u64(n["time"])), (44, u32(links[p])))
        outside = n["size"] - n["inline"]
        put(image, (n["off"], inode + n["x"] + n["bytes"][outside:]), (n["first"] * BLOCK, n["bytes"][:outside]) if outside else (0, b""))
    ident = v8(H(b"tally erofs uuid v1" + tree_digest(t)))
    put(image, (1024, u32(0xE0F5E1E2)), (1032, u32(1)), (1036, u8(12)), (1038, u16(128)), (1040, u64(len(nodes))), (1048, u64(epoch)),
        (1060, u32(block)), (1072, ident), (1088, label[:16]))
    return put(image, (1028, u32(crc32c(image[1024:BLOCK])))), ident


def crc32c(b):
    c = 0xFFFFFFFF
    for x in b:
        c ^= x
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c


# 3. The hash tree
def verity(image, salt, ident):
    digests = [H(salt + image[i:i + BLOCK]) for i in range(0, len(image), BLOCK)]
    levels = b""
    while len(digests) > 1:
        level = pad(b"".join(digests), BLOCK)
        levels = level + levels
        digests = [H(salt + level[i:i + BLOCK]) for i in range(0, len(level), BLOCK)]
    sb = put(bytearray(BLOCK), (0, b"verity"), (8, u32(1)), (12, u32(1)), (16, ident), (32, b"sha256"), (64, u32(BLOCK)), (68, u32(BLOCK)),
             (72, u64(len(image) // BLOCK)), (80, u16(len(salt))), (88, salt))
    return digests[0], sb + levels


# 4. The initrd
def cpio(t):
    out, inos, count = b"", {}, names(t)
    for path, e in t.items():
        if not path:
            continue
        of = e["link"] if e["kind"] == HARD else path
        e, first = t[of], of not in inos
        ino = inos.setdefault(of, len(inos) + 1)
        data = (e["data"] if first else b"") if e["kind"] == FILE else e["link"]
        out += newc(path, data, ino, FMT[e["kind"]] | e["mode"], e["uid"], e["gid"], count[of], e["time"], e["major"], e["minor"])
    return pad(out + newc(b"TRAILER!!!", b"", 0, 0, 0, 0, 1, 0, 0, 0), 512)


def newc(path, data, ino, mode, uid, gid, nlink, mtime, major, minor):
    numbers = ino, mode, uid, gid, nlink, mtime, len(data), 0, 0, major, minor, len(path) + 1, 0
    return pad(pad(b"070701" + b"".join(b"%08X" % n for n in numbers) + path + b"\0", 4) + data, 4)


# 6. The unified kernel image
def sections(pe):
    at = struct.unpack_from("<I", pe, 60)[0]
    n, opt = struct.unpack_from("<H", pe, at + 6)[0], struct.unpack_from("<H", pe, at + 20)[0]
    table = at + 24 + opt
    return at, at + 24, table, [struct.unpack_from("<8sIIII", pe, table + 40 * i) for i in range(n)]


def sbat_lines(pe):
    for name, size, _, _, raw in sections(pe)[3]:
        if name.rstrip(b"\0") == b".sbat":
            return pe[raw:raw + size].rstrip(b"\0\n").split(b"\n")[1:]
    return []


def uki(stub, kernel, parts):
    out = bytearray(stub)
    at, opt, table, have = sections(stub)
    get = lambda off: struct.unpack_from("<I", out, off)[0]
    align, file_align = get(opt + 32), get(opt + 36)
    header = b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md"
    ours = b"uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/"
    merged = b"\n".join([header] + sbat_lines(stub) + sbat_lines(kernel) + [ours]) + b"\n\0"
    for i, (name, _, _, room, raw) in enumerate(have):
        if name.rstrip(b"\0") == b".sbat":
            put(out, (table + 40 * i + 8, u32(len(merged))), (raw, merged + bytes(room - len(merged))))
            have[i] = (name, len(merged), *have[i][2:])
    kopt = sections(kernel)[1]
    if not struct.unpack_from("<H", kernel, kopt + 70)[0] & 0x100:
        put(out, (opt + 70, u16(struct.unpack_from("<H", out, opt + 70)[0] & ~0x100)))
    end, grown = have[-1][2] + have[-1][1], get(opt + 8)
    for i, (name, data) in enumerate(parts):
        addr = up(end, align)
        put(out, (table + 40 * (len(have) + i), name.ljust(8, b"\0") + u32(len(data)) + u32(addr) + u32(up(len(data), file_align)) + u32(len(out)) + bytes(12) +
                  u32(0x40000020 if name == b".linux" else 0x40000040)))
        out += pad(data, file_align)
        end, grown = addr + len(data), grown + len(data)
    return bytes(put(out, (at + 6, u16(len(have) + len(parts))), (opt + 8, u32(grown)), (opt + 56, u32(up(end, align))),
                     (opt + 60, u32(up(get(opt + 60), file_align))), (opt + 64, u32(0))))


# 7. disk.raw
def esp(image, epoch, size, serial):
    t, c = size // 512, 1 if size <= 260 * MIB else 8
    fat_sectors = -(-4 * (t - 32) // (512 * c + 8))
    data, cluster = (32 + 2 * fat_sectors) * 512, 512 * c
    g = time.gmtime(epoch)
    date, clock = u16((g.tm_year - 1980) << 9 | g.tm_mon << 5 | g.tm_mday), u16(g.tm_hour << 11 | g.tm_min << 5 | g.tm_sec // 2)
    entry = lambda name, attr, first, length=0: name.ljust(11) + bytes([attr, 0, 0]) + clock + date + date + u16(first >> 16) + clock + date + u16(first & 0xFFFF) + u32(length)
    used = up(len(image), cluster) // cluster
    chain = [0x0FFFFFF8] + [0x0FFFFFFF] * 4 + list(range(6, 5 + used)) + [0x0FFFFFFF]
    clusters = (size - data) // cluster
    boot = put(bytearray(512), (0, bytes.fromhex("eb5890") + b"MSWIN4.1" + u16(512) + u8(c) + u16(32) + u8(2)), (21, b"\xf8"), (24, u16(1) + u16(1) + u32(2048) + u32(t) + u32(fat_sectors)),
               (44, u32(2) + u16(1) + u16(6)), (64, b"\x80"), (66, b"\x29" + serial + b"ESP        FAT32   "), (510, b"\x55\xaa"))
    info = put(bytearray(512), (0, b"RRaA"), (484, b"rrAa" + u32(clusters - 3 - used) + u32(5 + used)), (510, b"\x55\xaa"))
    table = b"".join(u32(v) for v in chain)
    out = bytearray(size)
    put(out, (0, boot + info), (6 * 512, boot + info), (32 * 512, table), ((32 + fat_sectors) * 512, table))
    dots = lambda own, parent: entry(b".", 16, own) + entry(b"..", 16, parent)
    return put(out, (data, entry(b"ESP", 8, 0) + entry(b"EFI", 16, 3)), (data + cluster, dots(3, 0) + entry(b"BOOT", 16, 4)),
               (data + 2 * cluster, dots(4, 3) + entry(b"BOOTX64 EFI", 0, 5, len(image))), (data + 3 * cluster, image))


def gpt(disk, parts, guid):
    """parts: (name, type, guid, offset, size, attributes)"""
    sectors = len(disk) // 512
    table = bytearray(128 * 128)
    for i, (name, kind, ident, off, size, attr) in enumerate(parts):
        put(table, (128 * i, uuid.UUID(kind).bytes_le + mixed(ident) + u64(off // 512) + u64((off + size) // 512 - 1) + u64(attr) + name.encode("utf-16le")))
    crc = lambda b: u32(__import__("zlib").crc32(b))
    def header(own, other, entries):
        h = put(bytearray(92), (0, b"EFI PART" + u32(0x10000) + u32(92)), (24, u64(own) + u64(other) + u64(34) + u64(sectors - 34) + mixed(guid) + u64(entries) + u32(128) + u32(128) + crc(table)))
        return put(h, (16, crc(h)))
    put(disk, (446, bytes.fromhex("00000200eeffffff") + u32(1) + u32(sectors - 1)), (510, b"\x55\xaa"))
    put(disk, (512, header(1, sectors - 1, 2)), (1024, table), ((sectors - 33) * 512, table), ((sectors - 1) * 512, header(sectors - 1, 1, sectors - 33)))


mixed = lambda ident: uuid.UUID(bytes=ident).bytes_le


def guid(name, part):
    return v8(H(b"tally disk v1\0" + name + b"\0" + part))


def hashed(t, epoch, name):
    """A file system, its uuid, its root hash, its hash area and the words that name them."""
    image, ident = erofs(t, epoch, name)
    salt = derive(b"verity salt", name)
    root_hash, hashes = verity(image, salt, v8(derive(b"verity uuid", ident, salt)))
    words = "roothash=%s tally.verity=1,sha256,4096,4096,%d,1,%s" % (root_hash.hex(), len(image) // BLOCK, salt.hex())
    return image, ident, root_hash, hashes, words


# Model volumes
def models(list_, epoch):
    """The volumes by name of their files, and what they add to the root."""
    if not list_:
        return [], []
    volumes, added, text = [], [], "tally.models/v1\n"
    for m in sorted(list_, key=lambda m: m["name"]):
        name = m["name"].encode()
        image, ident, root_hash, hashes, words = hashed(tree(m["entries"], epoch), epoch, name)
        ids = [v8(derive(b"volume part", name, part, ident, u64(epoch))) for part in (b"data", b"data-verity")]
        hash_at = MIB + up(len(image), MIB)
        disk = bytearray(hash_at + up(len(hashes), MIB) + MIB)
        put(disk, (MIB, image), (hash_at, hashes))
        data = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
        gpt(disk, [("data", data, ids[0], MIB, hash_at - MIB, 1 << 60), ("data-verity", data, ids[1], hash_at, up(len(hashes), MIB), 1 << 60)], guid(name, b"volume"))
        volumes.append((m["name"] + ".raw", disk))
        text += "%s %s %s tally.partitions=%s\n" % (m["name"], m["mount"], words, ",".join(str(uuid.UUID(bytes=i)) for i in ids))
        added.append({"path": m["mount"].encode().hex(), "kind": DIR, "mode": 0o755, "mtime": epoch})
    added.append({"path": b"etc/tally/models".hex(), "kind": FILE, "mode": 0o644, "mtime": epoch, "data": text.encode().hex()})
    return volumes, added


def main(d):
    read = lambda name: open(d + "/" + name, "rb").read()
    i = json.loads(read("inputs.json"))
    name, epoch = i["name"].encode(), i["epoch"]
    stub, kernel = read("stub"), read("kernel")
    hexed = lambda s: s.encode().hex()
    t = [{"path": hexed("init"), "kind": FILE, "mode": 0o755, "data": read("init").hex()}]
    t += [{"path": hexed(p), "kind": DIR, "mode": 0o755} for p in ("dev", "proc", "root", "sys")]
    t += [{"path": hexed(m["path"]), "kind": FILE, "mode": 0o644, "data": m["data"]} for m in i["modules"]]
    t += [{"path": hexed("modules"), "kind": FILE, "mode": 0o644, "data": hexed("".join("/%s\n" % m["path"] for m in i["modules"]))}]
    initrd = cpio(tree(t, epoch))
    volumes, added = models(i["models"], epoch)
    root, _, root_hash, hashes, words = hashed(tree(added + i["entries"], epoch), epoch, name)
    words = words.split() + ["tally.scrub=%d" % (len(root) <= 512 * MIB), "panic=-1"]
    cmdline = " ".join(words + i["cmdline"].split()).encode()
    osrel = 'ID=tally\nNAME="{0}"\nVERSION_ID="{1}"\nPRETTY_NAME="{0} {1}"\n'.format(i["name"], i["version"]).encode()
    image = uki(stub, kernel, [(b".osrel", osrel), (b".cmdline", cmdline), (b".uname", i["release"].encode()), (b".linux", kernel), (b".initrd", initrd)])
    ident = lambda part: guid(name, part)
    payload = len(stub) + len(kernel) + len(initrd) + 65536
    esp_size = max(34 * MIB, up(payload + payload // 50 + MIB, MIB))
    root_at, hash_at = MIB + esp_size, MIB + esp_size + up(len(root), MIB)
    disk = bytearray(hash_at + up(len(hashes), MIB) + MIB)
    put(disk, (MIB, esp(image, epoch, esp_size, ident(b"esp serial")[:4])), (root_at, root), (hash_at, hashes))
    gpt(disk, [("esp", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", ident(b"esp"), MIB, esp_size, 0),
               ("root", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", root_hash[:16], root_at, up(len(root), MIB), 1 << 60),
               ("root-verity", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", root_hash[16:], hash_at, up(len(hashes), MIB), 1 << 60)], ident(b"disk"))
    for out, data in [("initrd", initrd), ("cmdline", cmdline), ("uki.efi", image), ("disk.raw", disk)] + volumes:
        with open(d + "/" + out, "wb") as f:
            f.write(data)


main(sys.argv[1])
