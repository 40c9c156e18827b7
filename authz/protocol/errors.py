"""OAuthError: every answer that the OAuth specifications define for a request that fails."""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

_DESCRIPTION = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")  # RFC 6749 5.2
_UNSPEAKABLE = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")


class ErrorCode(StrEnum):
    """The error codes in use, with the section that defines each."""

    INVALID_REQUEST = "invalid_request"  # RFC 6749 5.2
    INVALID_CLIENT = "invalid_client"  # RFC 6749 5.2
    INVALID_GRANT = "invalid_grant"  # RFC 6749 5.2
    UNAUTHORIZED_CLIENT = "unauthorized_client"  # RFC 6749 5.2
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"  # RFC 6749 5.2
    INVALID_SCOPE = "invalid_scope"  # RFC 6749 5.2
    ACCESS_DENIED = "access_denied"  # RFC 6749 4.1.2.1
    UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"  # RFC 6749 4.1.2.1
    SERVER_ERROR = "server_error"  # RFC 6749 4.1.2.1
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"  # RFC 6749 4.1.2.1
    INVALID_REQUEST_URI = "invalid_request_uri"  # OpenID Connect Core 3.1.2.6, RFC 9101 6.2
    INVALID_REQUEST_OBJECT = "invalid_request_object"  # RFC 9101 6.2
    REQUEST_NOT_SUPPORTED = "request_not_supported"  # OpenID Connect Core 3.1.2.6
    LOGIN_REQUIRED = "login_required"  # OpenID Connect Core 3.1.2.6
    CONSENT_REQUIRED = "consent_required"  # OpenID Connect Core 3.1.2.6
    # OIDC Unmet Authentication Requirements 1.0
    UNMET_AUTHENTICATION_REQUIREMENTS = "unmet_authentication_requirements"
    INVALID_AUTHORIZATION_DETAILS = "invalid_authorization_details"  # RFC 9396 5
    INVALID_TARGET = "invalid_target"  # RFC 8707 2
    INVALID_TOKEN = "invalid_token"  # RFC 6750 3.1
    INSUFFICIENT_SCOPE = "insufficient_scope"  # RFC 6750 3.1
    INSUFFICIENT_USER_AUTHENTICATION = "insufficient_user_authentication"  # RFC 9470 3
    INVALID_DPOP_PROOF = "invalid_dpop_proof"  # RFC 9449 5, 7.1
    USE_DPOP_NONCE = "use_dpop_nonce"  # RFC 9449 8, 9
    INVALID_REDIRECT_URI = "invalid_redirect_uri"  # RFC 7591 3.2.2
    INVALID_CLIENT_METADATA = "invalid_client_metadata"  # RFC 7591 3.2.2
    INVALID_SOFTWARE_STATEMENT = "invalid_software_statement"  # RFC 7591 3.2.2
    UNAPPROVED_SOFTWARE_STATEMENT = "unapproved_software_statement"  # RFC 7591 3.2.2


_STATUS = {
    ErrorCode.INVALID_CLIENT: 401,
    ErrorCode.INVALID_TOKEN: 401,
    ErrorCode.INSUFFICIENT_SCOPE: 403,
    ErrorCode.INSUFFICIENT_USER_AUTHENTICATION: 401,
    ErrorCode.SERVER_ERROR: 500,
    ErrorCode.TEMPORARILY_UNAVAILABLE: 503,
}


class OAuthError(Exception):
    """An answer that the protocol defines.

    code        for the program at the other end
    description for its developer: says what was wrong and what was expected; public
    detail      for our log only: never leaves the process
    status      HTTP status at the authorization server; 400 unless the code has one of its own
    fields      further members that a specification gives this code, e.g. scope (RFC 6750 3)
    skew_seconds  how far off the clock was by which a token was refused, for our metrics only
    retry_after_seconds  of a 429: how long to wait; None where that is not known
    client_id   the client that had authenticated when it was raised, for our log only; set on its way out
    """

    def __init__(
        self,
        code: ErrorCode,
        description: str,
        *,
        detail: str = "",
        status: int | None = None,
        fields: Mapping[str, str] | None = None,
        skew_seconds: int | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        if not _DESCRIPTION.fullmatch(description):
            raise ValueError(f"error_description holds characters that RFC 6749 5.2 forbids: {description!a}")
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description
        self.detail = detail
        self.status = status if status is not None else _STATUS.get(code, 400)
        self.fields: Mapping[str, str] = MappingProxyType(dict(fields or {}))
        self.skew_seconds = skew_seconds
        self.retry_after_seconds = retry_after_seconds
        self.client_id: str | None = None


def speakable(text: str, *, at_most: int = 120) -> str:
    """The text with everything that an error_description may not hold replaced by '?', cut to at_most.

    For quoting what a caller sent back to that caller (RFC 6749 5.2).
    """
    shown = _UNSPEAKABLE.sub("?", text[: at_most + 1])
    return shown if len(shown) <= at_most else shown[: at_most - 3] + "..."
