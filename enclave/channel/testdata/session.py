#!/usr/bin/python3
"""Vectors of PROTOCOL.md, sections 1 to 4: whole sessions of each kind, frame by frame. Writes session.json beside it, by dissononce (Debian's
python3-dissononce), a Noise implementation that is not ours; both sides are here. Python has no ML-KEM: mlkem.json has a key and what was encapsulated for it."""
import hashlib, json, os, struct
from dissononce.cipher.aesgcm import AESGCMCipher
from dissononce.dh.private import PrivateKey
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.sha256 import SHA256Hash
from dissononce.processing.handshakepatterns.interactive.IK import IKHandshakePattern
from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from dissononce.processing.modifiers.fallback import FallbackPatternModifier
from dissononce.processing.modifiers.psk import PSKPatternModifier

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "mlkem.json")) as f:
    kem = {k: bytes.fromhex(v) for k, v in json.load(f).items() if k != "origin"}

def sha(text): return hashlib.sha256(text.encode()).digest()

class Fixed(X25519DH):
    "makes the one key that it is given"
    def __init__(self, secret):
        super().__init__()
        self.secret = secret
    def generate_keypair(self, privatekey=None): return super().generate_keypair(PrivateKey(self.secret))

SECRETS = {w: sha("tally/1 vector: " + w) for w in ("client static", "client ephemeral", "server static", "server ephemeral", "another static", "nonce")}
def pair(word): return Fixed(SECRETS[word]).generate_keypair()

AUTHORITY, EVIDENCE = b"api.example.com:443", b"\x01" + b"some evidence " * 40
OLD = b"\x01what a client kept that the server has no more"

def lp16(x): return struct.pack(">H", len(x)) + x
def header(kind, offered, carrier): return bytes([kind, 1, carrier]) + lp16(AUTHORITY) + lp16(offered) + b"\x01"

def state(side, pattern, initiator, prologue, **keys):
    hs = HandshakeState(SymmetricState(CipherState(AESGCMCipher()), SHA256Hash()), Fixed(SECRETS[side + " ephemeral"]))
    hs.initialize(pattern, initiator, b"tally/1\0" + prologue, **keys)
    return hs

class Wire:
    def __init__(self): self.frames = []
    def say(self, who, b): self.frames.append({"from": who, "frame": bytes(b).hex()})
    def message(self, who, prefix, from_, to, payload):
        "one Noise message, read by the other side"
        out, got = bytearray(), bytearray()
        keys = from_.write_message(payload, out)
        other = to.read_message(bytes(out), got)
        assert bytes(got) == payload and (keys is None) == (other is None)
        self.say(who, prefix + bytes(out))
        return bytes(out), keys, other

def rekey(cs):
    # Noise 11.3: Rekey() changes k and leaves n alone; this library's own resets n.
    n, k = cs._nonce, cs.cipher.encrypt(cs._key, 2**64 - 1, b"", bytes(32))[:32]
    cs.initialize_key(k)
    cs.set_nonce(n)

def records(w, who, cs, all):
    for type, stream, payload in all:
        plain = struct.pack(">BBIH", type, 0, stream, len(payload)) + payload
        w.say(who, cs.encrypt_with_ad(b"", plain + bytes(-len(plain) % 256)))
        if type == 4: rekey(cs)

# A key change after every second record: REKEY is the third, unless CLOSE is.
CLIENT = [(1, 1, b"a question"), (1, 2, b"x" * 600), (4, 0, b""), (2, 1, b"\0\0"), (6, 2, b"\0\3"), (3, 0, b"")]
CONFIRMED = [(5, 0, b""), (1, 1, b"a question"), (4, 0, b""), (1, 2, b"x" * 600), (2, 1, b"\0\0"), (4, 0, b""), (6, 2, b"\0\3"), (3, 0, b"")]
SERVER = [(1, 1, b"an answer"), (7, 0, struct.pack(">I", 600)), (4, 0, b""), (2, 1, b"\0\0"), (3, 0, b"")]

def finish(name, kind, w, binding, mine, theirs, client=CLIENT, carrier=1):
    records(w, "client", mine, client)
    records(w, "server", theirs, SERVER)
    return {"name": name, "reply": 0x80 | kind, "carrier": carrier, "handshake_hash": binding.hex(), "frames": w.frames}

def full(name, kind, offered, carrier=1):
    w, head = Wire(), header(kind, offered, carrier)
    pattern = XXHandshakePattern() if kind == 1 else PSKPatternModifier(3).modify(XXHandshakePattern())
    psks = dict(psks=[kem["secret"]]) if kind == 3 else {}
    c = state("client", pattern, True, head, s=pair("client static"), **psks)
    s = state("server", pattern, False, head, s=pair("server static"), **psks)
    w.message("client", head, c, s, kem["encapsulation_key"] if kind == 3 else b"")
    w.message("server", bytes([0x80 | kind]), s, c, (kem["ciphertext"] if kind == 3 else b"") + EVIDENCE)
    _, keys, _ = w.message("client", b"", c, s, b"")
    return finish(name, kind, w, c.symmetricstate.get_handshake_hash(), *keys, carrier=carrier)

def pinned(evidence): return hashlib.sha256(evidence).digest() + SECRETS["nonce"]

def reconnect(name, kind, offered, known=True):
    w, head, ct = Wire(), header(kind, offered, 1), kem["ciphertext"] if kind == 4 else b""
    pattern = IKHandshakePattern() if kind == 2 else PSKPatternModifier(2).modify(IKHandshakePattern())
    psks = dict(psks=[kem["secret"]]) if kind == 4 else {}
    c = state("client", pattern, True, head + ct, s=pair("client static"), rs=pair("server static").public, **psks)
    s = state("server", pattern, False, head + ct, s=pair("server static"), **psks)
    w.message("client", head + ct, c, s, pinned(EVIDENCE if known else OLD))
    _, keys, _ = w.message("server", bytes([0x80 | kind]), s, c, b"\x02" if known else EVIDENCE)
    return finish(name, kind, w, c.symmetricstate.get_handshake_hash(), *keys, client=CONFIRMED)

def fallback(name):
    w, head = Wire(), header(2, b"\1\2", 1)
    ik = state("client", IKHandshakePattern(), True, head, s=pair("client static"), rs=pair("another static").public)
    first = bytearray()
    ik.write_message(pinned(EVIDENCE), first)
    w.say("client", head + bytes(first))
    prologue, pattern = head + hashlib.sha256(bytes(first)).digest(), FallbackPatternModifier().modify(XXHandshakePattern())
    c = state("client", pattern, True, prologue, s=pair("client static"), e=ik.e)
    s = state("server", pattern, False, prologue, s=pair("server static"), re=ik.e.public)
    w.message("server", b"\x8f", s, c, EVIDENCE)
    _, keys, _ = w.message("client", b"", c, s, b"")
    return finish(name, 0x0f, w, c.symmetricstate.get_handshake_hash(), keys[1], keys[0]) # the server spoke first

out = {
    "origin": "testdata/session.py, dissononce; ML-KEM by mlkem.json",
    "authority": AUTHORITY.decode(), "evidence": EVIDENCE.hex(), "old_evidence": OLD.hex(), "rekey_after": 3,
    "secrets": {w: b.hex() for w, b in SECRETS.items()}, # X25519 scalars, and the nonce of a reconnect
    "server_static": bytes(pair("server static").public.data).hex(), "another_static": bytes(pair("another static").public.data).hex(),
    "sessions": [
        full("classical", 1, b"\1"), full("classical by WebSocket", 1, b"\1", carrier=2), full("hybrid", 3, b"\3"), full("hybrid, classical offered", 3, b"\1\3"),
        reconnect("classical reconnect", 2, b"\1\2"), reconnect("classical reconnect, new evidence", 2, b"\1\2", known=False),
        reconnect("hybrid reconnect", 4, b"\3\4"), fallback("classical fallback"),
    ],
}
with open(os.path.join(HERE, "session.json"), "w") as f: f.write(json.dumps(out, indent=1) + "\n")
