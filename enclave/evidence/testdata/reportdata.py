#!/usr/bin/env python3
"""Writes reportdata.json: REPORTDATA and encodings of SPEC.md by hashlib and struct alone."""
import hashlib, json, struct, sys

def lp16(x): return struct.pack(">H", len(x)) + x
def lp8(x): return struct.pack(">B", len(x)) + x
def u64(v): return struct.pack(">Q", v)
def sha256(x): return hashlib.sha256(x).digest()
def digest(tag, *fields): return hashlib.sha512(b"".join(map(lp16, (tag,) + fields))).hexdigest()

def case(name, platform, authority, static, epoch, nb, na, ek=b"", gpu=b"", beacon=b"", report=None, endorsements=b""):
    rd = digest(b"tally/1 key evidence", b"responder", static, sha256(ek), u64(epoch), u64(nb), u64(na), sha256(gpu), sha256(authority), sha256(beacon))
    if report is None:
        report = bytes.fromhex(rd)
    doc = b"\x01" + lp8(platform) + lp8(authority) + static + u64(epoch) + u64(nb) + u64(na) + b"".join(map(lp16, (ek, gpu, beacon, report, endorsements)))
    return {"name": name, "platform": platform.decode(), "authority": authority.decode(), "static": static.hex(), "epoch": epoch, "not_before": nb, "not_after": na,
            "encap_key": ek.hex(), "gpu": gpu.hex(), "beacon": beacon.hex(), "report": report.hex(), "endorsements": endorsements.hex(), "report_data": rd, "document": doc.hex()}

def session(h, nonce, static):
    leaf = sha256(b"\x00" + h + nonce + static)
    return {"handshake_hash": h.hex(), "nonce": nonce.hex(), "static": static.hex(), "leaf": leaf.hex(), "report_data_of_leaf_as_root": digest(b"tally/1 session evidence", b"responder", leaf)}

json.dump({
    "origin": "testdata/reportdata.py, CPython hashlib",
    "key": [
        case("insecure", b"insecure", b"default", bytes(range(1, 33)), 1, 1767225600, 1767312000),
        case("all fields", b"snp", b"chat.example:443", bytes([0xaa]) * 32, 2**40 + 7, 1767225600, 1767225601, ek=bytes(i & 255 for i in range(1184)), gpu=b"gpu evidence", beacon=b"log.example\n1\nAAAA\n", report=bytes(1184), endorsements=b"certs"),
        case("shortest", b"t", b"a", b"\x00" * 31 + b"\x01", 1, 1, 2, report=b""),
    ],
    "session": [session(bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32), session(bytes(range(32)), bytes(32), bytes([255]) * 32)],
}, sys.stdout, indent=1)
print()
