#!/usr/bin/env python3
"""Writes secrets.json: messages of SPEC.md by hashlib, struct and python3-cryptography (deterministic ECDSA, RFC 6979)."""
import base64, hashlib, json, struct, sys
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.derive_private_key(int.from_bytes(hashlib.sha256(b"operator").digest(), "big"), ec.SECP256R1())
spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

def lp(x): return struct.pack(">H", len(x)) + x

def case(handshake, static, salt, values):
    contents = salt + bytes([len(values)])
    for name in sorted(values):
        contents += struct.pack("B", len(name)) + name.encode() + struct.pack(">I", len(values[name])) + values[name]
    signed = lp(b"tally/1 secrets") + lp(handshake) + lp(static) + lp(hashlib.sha256(contents).digest())
    signature = key.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    message = b"\xff\xff" + handshake + static + bytes([len(signature)]) + signature + contents
    return {"handshake": handshake.hex(), "static": static.hex(), "salt": salt.hex(), "values": {n: v.hex() for n, v in values.items()},
            "signed": signed.hex(), "signature": signature.hex(), "message": message.hex()}

json.dump({
    "origin": "testdata/secrets.py, CPython hashlib and cryptography",
    "operator": base64.b64encode(spki).decode(),
    "cases": [
        case(bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32, {"hf-token": b"hf_abc"}),
        case(bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96)), {"tls-key": b"-----BEGIN\n", "a": b"\x00", "tls-key.2": bytes(range(256))}),
    ],
}, sys.stdout, indent=1)
sys.stdout.write("\n")
