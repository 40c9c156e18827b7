"""Handles: what a client or a browser holds and nobody can guess (codes, tokens, sessions), and what is kept of one."""

import secrets
import time
from hashlib import sha256

from authz.protocol.encoding import base64url


def new_handle() -> str:
    """A new one: 32 random bytes in base64url."""
    return base64url(secrets.token_bytes(32))


def digest(handle: str) -> str:
    """The store's id of a handle: whoever reads the store has none."""
    return base64url(sha256(handle.encode("utf-8", "replace")).digest())


def new_grant_id() -> str:
    """The id of a grant: the time at which it is made, and 16 random bytes.

    Rows and indexes of grants stand in the order of their ids: those that are made together share pages, and a commit
    writes each page once (so does RFC 9562, version 7). An id opens nothing, and its tokens tell the time as well.
    """
    return f"{time.time_ns() // 1000:014x}{base64url(secrets.token_bytes(16))}"
