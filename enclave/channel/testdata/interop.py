#!/usr/bin/python3
"""A client of PROTOCOL.md (kinds 01 and 02) on dissononce, a Noise implementation that is not ours.

usage: interop.py PORT EVIDENCE_HEX STATIC_HEX xx|ik|fallback; prints "ok" when everything came out as the page says."""
import hashlib, os, socket, struct, sys
from dissononce.cipher.aesgcm import AESGCMCipher
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.sha256 import SHA256Hash
from dissononce.dh.x25519.public import PublicKey
from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from dissononce.processing.modifiers.fallback import FallbackPatternModifier

sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
evidence, static = bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])

def send(b): sock.sendall(struct.pack(">H", len(b)) + b)
def exactly(n):
    b = b""
    while len(b) < n:
        more = sock.recv(n - len(b))
        if not more: raise EOFError("connection ended")
        b += more
    return b
def recv(): return exactly(struct.unpack(">H", exactly(2))[0])

def lp16(x): return struct.pack(">H", len(x)) + x
def header(kind, offered): return bytes([kind]) + b"\x01\x01" + lp16(b"default") + lp16(offered) + b"\x01"
dh = X25519DH()
def state(pattern, prologue, **keys):
    hs = HandshakeState(SymmetricState(CipherState(AESGCMCipher()), SHA256Hash()), dh)
    hs.initialize(pattern, True, b"tally/1\0" + prologue, **keys)
    return hs
def write(hs, payload):
    out = bytearray()
    return out, hs.write_message(payload, out)
def read(hs, message):
    out = bytearray()
    return out, hs.read_message(message, out)

def xx():
    head = header(1, b"\x01")
    hs = state(XXHandshakePattern(), head, s=dh.generate_keypair())
    send(head + write(hs, b"")[0])
    reply = recv()
    assert reply[0] == 0x81, reply[0]
    assert read(hs, reply[1:])[0] == evidence and bytes(hs.rs.data) == static
    last, keys = write(hs, b"")
    send(last)
    return keys

def ik(rs, s):
    head = header(2, b"\x01\x02")
    hs = state(IKHandshakePattern(), head, s=s, rs=PublicKey(rs))
    first = bytes(write(hs, hashlib.sha256(evidence).digest() + os.urandom(32))[0])
    assert len(first) == 160, len(first)
    send(head + first)
    return head, hs, first, recv()

def reconnect():
    _, hs, _, reply = ik(static, dh.generate_keypair())
    assert reply[0] == 0x82, reply[0]
    payload, keys = read(hs, reply[1:])
    assert payload == b"\x02", payload # the evidence that we have
    return keys

def fallback():
    s = dh.generate_keypair()
    head, hs, first, reply = ik(bytes(dh.generate_keypair().public.data), s)
    assert reply[0] == 0x8f, reply[0]
    fb = state(FallbackPatternModifier().modify(XXHandshakePattern()), head + hashlib.sha256(first).digest(), s=s, e=hs.e)
    assert fb.protocol_name == "Noise_XXfallback_25519_AESGCM_SHA256", fb.protocol_name
    assert read(fb, reply[1:])[0] == evidence and bytes(fb.rs.data) == static
    last, keys = write(fb, b"")
    send(last)
    return keys[1], keys[0] # the server spoke first

mine, theirs = {"xx": xx, "ik": reconnect, "fallback": fallback}[sys.argv[4]]()

def rekey(cs):
    # Noise 11.3: Rekey() changes k and leaves n alone; this library's own resets n.
    n = cs._nonce
    k = cs.cipher.encrypt(cs._key, 2**64 - 1, b"", bytes(32))[:32]
    cs.initialize_key(k)
    cs.set_nonce(n)

def seal(type, stream, payload):
    plain = struct.pack(">BBIH", type, 0, stream, len(payload)) + payload
    plain += bytes(-len(plain) % 256)
    send(mine.encrypt_with_ad(b"", plain))

def open_record():
    plain = theirs.decrypt_with_ad(b"", recv())
    type, flags, stream, length = struct.unpack(">BBIH", plain[:8])
    assert flags == 0 and len(plain) == (8 + length + 255) // 256 * 256 and not any(plain[8 + length:]), plain.hex()
    if type == 4: rekey(theirs)
    return type, stream, plain[8:8 + length]

if sys.argv[4] == "ik": seal(5, 0, b"") # the confirmation
for stream in range(1, 6):
    text = b"hello %d " % stream * 500 * stream
    for i in range(0, len(text), 16376): seal(1, stream, text[i:i + 16376])
    if stream == 2:
        seal(4, 0, b"")
        rekey(mine)
    seal(5, 0, bytes(300))
    seal(2, stream, b"\0\0")
    got = b""
    while True:
        type, s, payload = open_record()
        if type in (4, 5): continue
        assert s == stream, s
        if type == 2: break
        assert type == 1, type
        got += payload
    assert payload == b"\0\0" and got == text, (len(got), len(text))
seal(3, 0, b"")
while True:
    type, stream, payload = open_record()
    if type == 3: break
    assert type in (4, 5), type
print("ok")
