"""Handles: what a client or a browser holds and nobody can guess (codes, tokens, sessions), and what is kept of one."""

import secrets
from hashlib import sha256

from authz.protocol.encoding import base64url


def new_handle() -> str:
    """A new one: 32 random bytes in base64url."""
    return base64url(secrets.token_bytes(32))


def digest(handle: str) -> str:
    """The store's id of a handle: whoever reads the store has none."""
    return base64url(sha256(handle.encode("utf-8", "replace")).digest())
