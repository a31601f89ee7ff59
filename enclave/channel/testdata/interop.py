#!/usr/bin/python3
"""A client of PROTOCOL.md (kinds 01 to 04) on dissononce, a Noise implementation that is not ours.

usage: interop.py PORT EVIDENCE_HEX STATIC_HEX xx|ik|fallback
       interop.py PORT EVIDENCE_HEX STATIC_HEX xxpsk3 EK_HEX    prints the ciphertext for EK in hex and reads the secret
       interop.py PORT EVIDENCE_HEX STATIC_HEX ikpsk2 CT_HEX SECRET_HEX
       interop.py PORT - - ask    asks an enclave with insecure evidence for session evidence, twice
prints "ok" when everything came out as the page says. Python has no ML-KEM here: the caller has the keys."""
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
from dissononce.processing.modifiers.psk import PSKPatternModifier

sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
evidence, static = (bytes.fromhex(a.strip("-")) for a in sys.argv[2:4])

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

def xxpsk3():
    head, ek = header(3, b"\x03"), bytes.fromhex(sys.argv[5])
    hs = state(PSKPatternModifier(3).modify(XXHandshakePattern()), head, s=dh.generate_keypair(), psks=[b""])
    assert hs.protocol_name == "Noise_XXpsk3_25519_AESGCM_SHA256" and len(ek) == 1184, hs.protocol_name
    send(head + write(hs, ek)[0])
    reply = recv()
    assert reply[0] == 0x83, reply[0]
    payload = read(hs, reply[1:])[0]
    assert payload[1088:] == evidence and bytes(hs.rs.data) == static
    print(payload[:1088].hex(), flush=True)
    hs._psks = [bytes.fromhex(input())] # that of the start stood in for what was not known yet
    last, keys = write(hs, b"")
    send(last)
    return keys

def ikpsk2():
    ct, secret = (bytes.fromhex(a) for a in sys.argv[5:7])
    head = header(4, b"\x03\x04")
    hs = state(PSKPatternModifier(2).modify(IKHandshakePattern()), head + ct, s=dh.generate_keypair(), rs=PublicKey(static), psks=[secret])
    assert hs.protocol_name == "Noise_IKpsk2_25519_AESGCM_SHA256" and len(ct) == 1088, hs.protocol_name
    send(head + ct + write(hs, hashlib.sha256(evidence).digest() + os.urandom(32))[0])
    reply = recv()
    assert reply[0] == 0x84, reply[0]
    payload, keys = read(hs, reply[1:])
    assert payload == b"\x02", payload # the evidence that we have
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

def attested():
    "XX with an enclave whose evidence is yet unknown; keeps the handshake hash and the static key"
    global static, binding
    head = header(1, b"\x01")
    hs = state(XXHandshakePattern(), head, s=dh.generate_keypair())
    send(head + write(hs, b"")[0])
    payload = read(hs, recv()[1:])[0]
    static = bytes(hs.rs.data)
    assert payload[:2] == b"\x01\x01" and static in payload
    ss = hs.symmetricstate
    last, keys = write(hs, b"")
    binding = ss.get_handshake_hash()
    send(last)
    return keys

mine, theirs = {"xx": xx, "ask": attested, "ik": reconnect, "fallback": fallback, "xxpsk3": xxpsk3, "ikpsk2": ikpsk2}[sys.argv[4]]()

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

def lp16_fields(b, n):
    out = []
    for _ in range(n):
        size = struct.unpack(">H", b[:2])[0]
        out.append(b[2:2 + size])
        b = b[2 + size:]
    assert b == b""
    return out

def ask():
    nonce = os.urandom(32)
    seal(8, 0, nonce + b"\x01")
    type, stream, payload = open_record()
    assert type == 9 and stream == 0, (type, stream)
    document, status, total = struct.unpack(">BHI", payload[:7])
    d = payload[7:]
    assert document == 1 and status == 0 and total == len(d), payload[:7]
    n = 2 + d[1]
    assert d[0] == 1 and d[2:n] == b"insecure", d
    size, at, steps = struct.unpack(">IIB", d[n:n + 9])
    path = [d[n + 9 + 32 * i:n + 41 + 32 * i] for i in range(steps)]
    report, endorsements = lp16_fields(d[n + 9 + 32 * steps:], 2)
    # RFC 9162, 2.1.3.2
    h = lambda *x: hashlib.sha256(b"".join(x)).digest()
    r, fn, sn = h(b"\0", binding, nonce, static), at, size - 1
    for p in path:
        assert sn != 0
        if fn & 1 or fn == sn:
            r = h(b"\1", p, r)
            while not fn & 1 and fn != 0: fn, sn = fn >> 1, sn >> 1
        else: r = h(b"\1", r, p)
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    assert report == hashlib.sha512(b"".join(map(lp16, (b"tally/1 session evidence", b"responder", r)))).digest(), report.hex()
    assert endorsements == b""
    return size

if sys.argv[4] == "ask":
    ask()
    ask() # again, with a nonce of its own
    seal(3, 0, b"")
    assert open_record()[0] == 3
    print("ok")
    sys.exit()

if sys.argv[4] in ("ik", "ikpsk2"): seal(5, 0, b"") # the confirmation
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
