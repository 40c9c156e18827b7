"""The key that seals the signing keys: 32 bytes, in a file of its own or given by value, never in the store."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from authz.protocol.encoding import base64url, base64url_decode


class KeyRingError(Exception):
    """The keys cannot be used: the encryption key is missing, malformed or another one."""


def load_or_create_encryption_key(path: Path) -> bytes:
    """The 32 bytes in base64 at path; made, readable by the owner only, when the file is missing.

    Raises KeyRingError when the file does not hold such a key, or cannot be read or made.
    """
    try:
        if not path.exists():
            _create_encryption_key(path)
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyRingError(f"the key encryption key cannot be read from {path}: {error}") from error
    return read_encryption_key(text, str(path))


def _create_encryption_key(path: Path) -> None:
    """A new key at path, whole and on the disk when it is seen there; the first of several processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, proposal = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(base64url(secrets.token_bytes(32)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(proposal, path)
    finally:
        os.unlink(proposal)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Keys sealed with it are written next: after a power cut this name must not be missing beside them.
        os.fsync(folder)
    finally:
        os.close(folder)


def read_encryption_key(text: str, where: str) -> bytes:
    """The key in base64 or base64url text. Raises KeyRingError."""
    try:
        key = base64url_decode(text.strip().rstrip("=").replace("+", "-").replace("/", "_"))
    except ValueError as error:
        raise KeyRingError(f"{where} does not hold base64") from error
    if len(key) != 32:
        raise KeyRingError(f"{where} holds {len(key)} bytes, expected 32 in base64")
    return key
