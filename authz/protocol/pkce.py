"""Proof Key for Code Exchange, method S256 and no other (RFC 7636, RFC 9700 2.1.1)."""

import hmac
import re
from hashlib import sha256

from authz.protocol.encoding import base64url
from authz.protocol.errors import ErrorCode, OAuthError

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")  # RFC 7636 4.1


def check_challenge(challenge: str | None, method: str | None) -> str:
    """The challenge of a pushed request. Raises OAuthError(INVALID_REQUEST) unless it is one of method S256."""
    if challenge is None:
        raise OAuthError(ErrorCode.INVALID_REQUEST, "code_challenge is required (RFC 7636)")
    if method != "S256":
        raise OAuthError(ErrorCode.INVALID_REQUEST, "code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthError(ErrorCode.INVALID_REQUEST, "code_challenge must be 43 characters of base64url")
    return challenge


def verify(verifier: str | None, challenge: str) -> None:
    """Check that verifier belongs to challenge, method S256 (RFC 7636 4.6).

    Raises OAuthError(INVALID_GRANT) when it is missing, malformed or does not match.
    """
    if verifier is None:
        raise OAuthError(ErrorCode.INVALID_GRANT, "code_verifier is required")
    if not _VERIFIER.fullmatch(verifier):
        raise OAuthError(ErrorCode.INVALID_GRANT, "code_verifier must be 43 to 128 unreserved characters")
    if not hmac.compare_digest(base64url(sha256(verifier.encode()).digest()), challenge):
        raise OAuthError(ErrorCode.INVALID_GRANT, "code_verifier does not match the code_challenge")
