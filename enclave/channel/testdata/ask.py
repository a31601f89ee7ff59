#!/usr/bin/python3
"""Vectors of PROTOCOL.md, section 5: what a document looks like as records. Writes ask.json beside it; no code of ours."""
import hashlib, json, os, struct

def record(type, payload):
    plain = struct.pack(">BBIH", type, 0, 0, len(payload)) + payload
    return plain + bytes(-len(plain) % 256)

def ask(name, nonce, documents, challenge=b""):
    return {"name": name, "nonce": nonce.hex(), "documents": documents, "challenge": challenge.hex(), "record": record(8, nonce + bytes([documents]) + challenge).hex()}

def answer(name, document, status, size):
    content = bytes((7 * i + i // 251) & 255 for i in range(size))
    records, at = [], 0
    while True:
        part = content[at:at + 16369]
        at += len(part)
        records.append(record(9, struct.pack(">BHI", document, status, size) + part))
        if at == size: break
    return {"name": name, "document": document, "status": status, "size": size, "content_sha256": hashlib.sha256(content).hexdigest(),
            "records": len(records), "first": records[0][:48].hex(), "records_sha256": hashlib.sha256(b"".join(records)).hexdigest()}

out = {
    "origin": "testdata/ask.py, CPython hashlib and struct",
    "ask": [ask("session", bytes(range(32)), 1), ask("gpu", bytes([255] * 32), 2), ask("both", bytes(32), 3),
            ask("credential", bytes(range(32)), 4, bytes(range(200))), ask("all, largest challenge", bytes(32), 7, bytes([9] * 1024))],
    "answer": [
        answer("one byte", 1, 0, 1), answer("a record", 1, 0, 16369), answer("and one byte", 1, 0, 16370), answer("largest session evidence", 1, 0, 49152),
        answer("gpu set", 2, 0, 250000), answer("largest gpu set", 2, 0, 1 << 20), answer("none", 1, 5, 0), answer("failed", 2, 1, 0), answer("credential", 4, 0, 32), answer("largest credential", 4, 0, 64),
    ],
}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ask.json"), "w") as f:
    f.write(json.dumps(out, indent=1) + "\n")
