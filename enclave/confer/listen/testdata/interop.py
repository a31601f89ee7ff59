#!/usr/bin/python3
"""A client of Confer's wire on dissononce, a Noise implementation that is not ours, with WebSocket (RFC 6455) and
protobuf by hand. The wire is confer-proxy 0.1.14's, as enclave/confer/doc.go says.

usage: interop.py PORT
prints what message 2 carries, then each response as one line: id, status, body."""
import base64, hashlib, json, os, socket, struct, sys
from dissononce.cipher.aesgcm import AESGCMCipher
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.hash.sha256 import SHA256Hash
from dissononce.processing.handshakepatterns.interactive.XX import XXHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState

sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
key = base64.b64encode(os.urandom(16)).decode()
sock.sendall(("GET /websocket?token=a.b.c HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nOrigin: https://confer.example\r\nSec-WebSocket-Key: %s\r\n\r\n" % key).encode())
stream = sock.makefile("rb")
assert stream.readline().startswith(b"HTTP/1.1 101 "), "no upgrade"
accept = b""
while (line := stream.readline()) != b"\r\n":
    if line.lower().startswith(b"sec-websocket-accept:"): accept = line.split(b":")[1].strip()
assert accept == base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())

def send(b):
    mask = os.urandom(4)
    head = b"\x82" + (bytes([0x80 | len(b)]) if len(b) < 126 else b"\xfe" + struct.pack(">H", len(b)))
    sock.sendall(head + mask + bytes(x ^ mask[i % 4] for i, x in enumerate(b)))
def recv():
    first, n = stream.read(2)
    assert first == 0x82 and n < 128, (first, n)
    if n == 126: n = struct.unpack(">H", stream.read(2))[0]
    if n == 127: n = struct.unpack(">Q", stream.read(8))[0]
    return stream.read(n)

dh = X25519DH()
hs = HandshakeState(SymmetricState(CipherState(AESGCMCipher()), SHA256Hash()), dh)
hs.initialize(XXHandshakePattern(), True, b"", s=dh.generate_keypair())
out = bytearray()
hs.write_message(b"", out)
send(bytes(out))
payload = bytearray()
hs.read_message(recv(), payload)
out = bytearray()
mine, theirs = hs.write_message(b"", out)
send(bytes(out))
shown = json.loads(payload.decode())
assert list(shown) == ["platform", "attestation", "manifest", "manifestBundle"], list(shown)
report = base64.b64decode(shown["attestation"], validate=True)
bound = {"SEV-SNP": report[0x50:0x90], "TDX": report[568:632]}[shown["platform"]]
assert bound == bytes(hs.rs.data) + bytes(32), "the report is about another key"
print(shown["platform"], len(report), shown["manifest"], shown["manifestBundle"])

def varint(n):
    n &= 2**64 - 1
    out = b""
    while n > 127: out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
def number(field, n): return varint(field << 3) + varint(n)
def text(field, b): return varint(field << 3 | 2) + varint(len(b)) + b
def parse(b):
    def take():
        nonlocal b
        n = shift = 0
        while True:
            n |= (b[0] & 127) << shift
            more, b, shift = b[0] & 128, b[1:], shift + 7
            if not more: return n
    fields = {}
    while b:
        tag = take()
        n = take()
        if tag & 7 == 2: n, b = b[:n], b[n:]
        fields[tag >> 3] = n
    return fields

def ask(id, verb, path, body=None):
    m = number(1, id) + text(2, verb) + text(3, path)
    if body is not None: m += text(4, body if isinstance(body, bytes) else json.dumps(body).encode())
    pieces = [m[i:i + 20000] for i in range(0, len(m), 20000)] # smaller than confer-proxy cuts them
    order = list(enumerate(pieces))
    order.reverse() # the order is the sender's business
    chunk = int.from_bytes(os.urandom(8), "big")
    for i, piece in order:
        send(mine.encrypt_with_ad(b"", number(1, chunk) + number(2, i) + number(3, len(pieces)) + text(4, piece)))
pending = {}
def answer():
    while True:
        f = parse(theirs.decrypt_with_ad(b"", recv()))
        have = pending.setdefault(f[1], {})
        have[f.get(2, 0)] = f[4]
        if len(have) == f[3]:
            r = parse(b"".join(have[i] for i in range(f[3])))
            return r[1], r[2], r.get(3, b"").decode()

ask(1, b"GET", b"/ping")
print(*answer())
chat = {"messages": [{"role": "user", "content": "let there be light"}], "model": "m", "stream": True, "webSearch": False}
ask(2, b"POST", b"/v1/vllm/chat/completions", chat)
while True:
    id, status, body = answer()
    assert len(body) % 256 == 0, "a piece shows its length"
    piece = json.loads(body)
    print(id, status, json.dumps(piece))
    if piece["type"] == "completion": break
chat["messages"][0]["content"], chat["stream"] = "x" * 100000, False
ask(3, b"POST", b"/v1/vllm/chat/completions", chat)
id, status, body = answer()
print(id, status, len(body), set(body))
ask(4, b"POST", b"/v1/embeddings", {"texts": ["a", "b"]})
print(*answer())
ask(5, b"POST", b"/v1/document/extract", {})
print(*answer())
