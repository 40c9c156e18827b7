"""A verifier from docs/audit.md alone, with nothing of ours: python independent_verifier.py log.ndjson keys.json"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature


def sha(data): return hashlib.sha256(data).digest()  # fmt: skip


def b64(data): return base64.urlsafe_b64encode(data).decode().rstrip("=")  # fmt: skip


def unb64(text): return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))  # fmt: skip


def number(data): return int.from_bytes(data, "big")  # fmt: skip


def root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else sha(b"")
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha(b"\x01" + root(leaves[:split]) + root(leaves[split:]))


def opened(jws, keys):
    header, payload, signature = jws.split(".")
    jwk, raw = keys[json.loads(unb64(header))["kid"]], unb64(signature)
    point = ec.EllipticCurvePublicNumbers(number(unb64(jwk["x"])), number(unb64(jwk["y"])), ec.SECP256R1())
    der = encode_dss_signature(number(raw[:32]), number(raw[32:]))
    point.public_key().verify(der, f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
    return json.loads(unb64(payload))


def verified(log, keys):
    rows = [json.loads(text) for text in Path(log).read_bytes().splitlines()]
    keys = {jwk["kid"]: jwk for jwk in json.loads(Path(keys).read_bytes())["keys"]}
    lines, previous, count = {}, "", 0
    for row in rows:
        if "record" in row:
            lines.setdefault(row["chain"], []).append(row["record"].encode())
    for chain, records in lines.items():
        digest = sha(b"securus audit log" + (b"\0" + chain.encode() if chain else b""))
        for place, line in enumerate(records, start=1):
            said = json.loads(line)
            assert (said["seq"], said["previous"]) == (place, b64(digest)), f"{chain} {place}"
            digest = sha(digest + line)
    for row in rows:
        if "head" in row:
            head, count = opened(row["head"], keys), count + 1
            assert (head["head"], head["previous"]) == (count, previous), f"head {count}"
            previous = b64(sha(row["head"].encode()))
            for chain, state in head["chains"].items():
                leaves = [sha(b"\0" + line) for line in lines.get(chain, [])[: state["size"]]]
                assert (len(leaves), b64(root(leaves))) == (state["size"], state["root"]), (
                    f"head {count} {chain}"
                )
    return sum(map(len, lines.values())), count


if __name__ == "__main__":
    print(*verified(*sys.argv[1:]))
