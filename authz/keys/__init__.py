"""The server's own signing keys: made at first start, encrypted at rest, announced, active, retired, removed.

A new key is published (announced) for a while before it signs, so that everybody who caches our JWKS knows it by
then; a retired key stays published until the last token that it signed has expired. Every step is a conditional
change in the store, and the kid of the next key follows from the keys that are there: any number of nodes may run
tick(), one of them makes each step, and all have the same keys afterwards.

    ring            signs with the active keys and knows every published one
    calendar        which step is due when: pure
    steps           one step, made by one of several nodes
    by_hand         what an operator may do at any time: rotate, retire, remove, import, reseal
    homes           where private keys live: sealed in the store, or in a PKCS#11 token
    sealing         AES-256-GCM under a key that is not in the store
    pkcs11_keys     keys that never leave a PKCS#11 token, off the event loop
    pkcs11_session  one session with such a token
    making          new private keys, and those that come in a file
    encryption_key  the file with the key that seals the others
"""

from authz.keys.encryption_key import KeyRingError, load_or_create_encryption_key, read_encryption_key
from authz.keys.making import generate_private_key
from authz.keys.ring import KeyRing

__all__ = [
    "KeyRing",
    "KeyRingError",
    "generate_private_key",
    "load_or_create_encryption_key",
    "read_encryption_key",
]
