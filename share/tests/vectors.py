#!/usr/bin/env python3
"""The format of docs/share.md, written a second time from its text. Prints the vectors that vectors.rs compares with.

Needs pynacl: python3 -m venv v && v/bin/pip install pynacl && v/bin/python share/tests/vectors.py
"""

import base64
import hashlib
import hmac
import json
import struct

from nacl import bindings

POOL = bytes(range(16))
EPOCH = 3
POOL_KEY = bytes(range(100, 132))
ACCOUNT = "abcdefghij"
REVISION = 258
TEXT = "the text, with a letter beyond ASCII: ß"
BLOCKS = {"full": 8192, "access": 8192, "usage": 1024, "lease": 1024, "sessions": 1024, "removal": 1024, "machine": 1024}


def join(*fields):
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def number(value, size):
    return value.to_bytes(size, "big")


def hkdf(key, info):
    extracted = hmac.digest(b"codex-pool share", key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def pool_key_for(purpose):
    return hkdf(POOL_KEY, join(purpose, POOL, number(EPOCH, 4)))


def padded(text, block):
    text += b"\x80"
    return text + bytes(-len(text) % block)


def seal(key, nonce, associated, text, block):
    return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(padded(text, block), associated, nonce, key)


def record(kind, nonce):
    row = hmac.digest(pool_key_for(b"rows"), join(kind.encode(), ACCOUNT.encode()), "sha256")[:16]
    associated = join(
        b"codex-pool share", number(1, 4), POOL, number(EPOCH, 4), kind.encode(), row, number(REVISION, 8)
    )
    key = pool_key_for(b"full" if kind == "full" else b"access")
    sealed = seal(key, nonce, associated, TEXT.encode(), BLOCKS[kind])
    _, secret = bindings.crypto_sign_seed_keypair(pool_key_for(b"sign"))
    signature = bindings.crypto_sign(join(b"signature", associated, sealed), secret)[:64]
    return {
        "kind": kind,
        "nonce": nonce.hex(),
        "row": row.hex(),
        "sealed_sha256": hashlib.sha256(sealed).hexdigest(),
        "sealed_begins": sealed[:64].hex(),
        "signature": signature.hex(),
    }


def code(role):
    identity, secret, nonce = bytes([7]) * 16, bytes([8]) * 32, bytes([9]) * 24
    url = "postgres://ann@db.example/pool"
    keys = POOL_KEY
    if role == "runner":
        public, _ = bindings.crypto_sign_seed_keypair(pool_key_for(b"sign"))
        keys = pool_key_for(b"access") + pool_key_for(b"rows") + public
    text = join(role.encode(), POOL, number(EPOCH, 4), keys)
    associated = join(b"codex-pool share", number(1, 4), b"code", role.encode(), identity)
    bundle = seal(hkdf(secret, join(b"code", identity)), nonce, associated, text, 256)
    fields = join(role.encode(), identity, secret, url.encode())
    line = base64.urlsafe_b64encode(fields + hashlib.sha256(fields).digest()[:4]).rstrip(b"=").decode()
    return {"role": role, "url": url, "line": "cpshare1-" + line, "bundle": bundle.hex()}


print(
    json.dumps(
        {
            "pool": POOL.hex(),
            "epoch": EPOCH,
            "pool_key": POOL_KEY.hex(),
            "account": ACCOUNT,
            "revision": REVISION,
            "text": TEXT,
            "records": [record(kind, bytes([n]) * 24) for n, kind in enumerate(BLOCKS)],
            "codes": [code("member"), code("runner")],
        },
        indent=1,
        ensure_ascii=False,
    )
)
