"""client_secret_basic: reading the Authorization header and comparing the secret (RFC 6749 2.3.1, RFC 7617)."""

import hmac
import re
from base64 import b64decode
from hashlib import sha256
from urllib.parse import unquote_plus

from authz.protocol.clients import Client
from authz.protocol.errors import ErrorCode, OAuthError

MIN_SECRET_CHARACTERS = 32
SECRET = re.compile(r"[A-Za-z0-9._~-]{32,256}")
"""What a secret is made of: the same with and without the form encoding that RFC 6749 2.3.1 wants and many leave out."""
_MAX_CREDENTIALS = 2048


def digest_of(secret: str) -> bytes:
    """What is kept of a secret. It was made by a machine, so that one SHA-256 is enough."""
    return sha256(secret.encode()).digest()


def read_basic(header: str) -> tuple[str, str]:
    """client_id and secret of an Authorization header with Basic. Raises OAuthError(INVALID_CLIENT)."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic" or len(credentials) > _MAX_CREDENTIALS:
        raise _refused("the Authorization header must be Basic with client_id and secret")
    try:
        client_id, colon, secret = b64decode(credentials.strip(" "), validate=True).decode().partition(":")
        client_id, secret = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError as error:
        raise _refused("the Authorization header must be Basic with base64 of client_id:secret") from error
    if not colon or not client_id or not secret:
        raise _refused("the Authorization header must be Basic with base64 of client_id:secret")
    return client_id, secret


def check_secret(secret: str, client: Client, *, now: int) -> None:
    """Raise OAuthError(INVALID_CLIENT) unless it is the client's secret, or the one before while that is good."""
    given, expected = digest_of(secret), client.secret_digest
    is_own = expected is not None and hmac.compare_digest(given, expected)
    former = client.former_secret if now < client.former_until else None
    is_former = former is not None and hmac.compare_digest(given, former)
    if not (is_own or is_former):
        raise _refused("the secret is not that of the client")


def _refused(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_CLIENT, description)
