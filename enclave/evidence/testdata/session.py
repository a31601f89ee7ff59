#!/usr/bin/env python3
"""Writes session.json: trees, paths and documents of SPEC.md, section 3, by hashlib and struct alone. The tree is
RFC 6962's recursion (split at the largest power of two below n), not the loop over levels that the program uses."""
import hashlib, json, struct, sys

def lp16(x): return struct.pack(">H", len(x)) + x
def sha256(x): return hashlib.sha256(x).digest()

def split(n):
    k = 1
    while k * 2 < n:
        k *= 2
    return k

def root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:]))

def path(m, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return path(m, leaves[:k]) + [root(leaves[k:])]
    return path(m - k, leaves[k:]) + [root(leaves[:k])]

def case(n, m, platform=b"snp", report=b"report", endorsements=b""):
    leaves = [sha256(b"\x00" + bytes([1]) * 32 + struct.pack(">I", i).rjust(32, b"\x00") + bytes([3]) * 32) for i in range(n)]
    p = path(m, leaves)
    r = root(leaves)
    rd = hashlib.sha512(b"".join(map(lp16, (b"tally/1 session evidence", b"responder", r)))).hexdigest()
    doc = b"\x01" + bytes([len(platform)]) + platform + struct.pack(">II", n, m) + bytes([len(p)]) + b"".join(p) + lp16(report) + lp16(endorsements)
    return {"size": n, "index": m, "platform": platform.decode(), "report": report.hex(), "endorsements": endorsements.hex(), "root": r.hex(),
            "path": [x.hex() for x in p], "report_data": rd, "document": doc.hex()}

json.dump({
    "origin": "testdata/session.py, CPython hashlib",
    "leaf": "handshake hash 01..01, nonce the index in 32 bytes big-endian, static key 03..03",
    "cases": [case(1, 0), case(2, 0), case(2, 1), case(3, 2, endorsements=b"certs"), case(5, 4), case(7, 3, platform=b"tdx"), case(8, 5), case(1000, 999, report=b"")],
}, sys.stdout, indent=1)
sys.stdout.write("\n")
