"""The answer to an authorization request: where it goes, and what it says (RFC 6749 4.1.2, RFC 9207, JARM)."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from authz.protocol.clients import Client
from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.redirect_uris import is_registered

SIGNED_RESPONSE_MODES = ("jwt", "query.jwt")  # the two are one: JARM 2.3.4
_SIGNED_RESPONSE_SECONDS = 300  # at most 10 minutes (FAPI 2.0 Message Signing 5.4.1)


@dataclass(frozen=True, slots=True)
class RedirectTarget:
    """A redirect URI that was proved to be the client's. Only locate() makes one; only its holder can redirect."""

    redirect_uri: str
    state: str | None
    client_id: str
    signed: bool  # the answer goes as one signed response (JARM)
    signed_response_algorithm: str | None = None  # the client's choice, the server's default without


def locate(parameters: Mapping[str, str], client: Client) -> RedirectTarget:
    """Where the answer to a pushed request goes. Raises OAuthError when it is not a registered address any more."""
    redirect_uri = parameters.get("redirect_uri", "")
    if not is_registered(redirect_uri, client.redirect_uris):
        raise OAuthError(
            ErrorCode.INVALID_REQUEST, "redirect_uri is not one of those registered for this client"
        )
    # A mode that is not offered is refused in the default one, which the client can read.
    signed = client.signed_responses_required or parameters.get("response_mode") in SIGNED_RESPONSE_MODES
    return RedirectTarget(
        redirect_uri, parameters.get("state"), client.client_id, signed, client.signed_response_algorithm
    )


def success(target: RedirectTarget, code: str, *, issuer: str) -> dict[str, str]:
    """The members of an answer with a code: code, state, iss (RFC 6749 4.1.2, RFC 9207 2)."""
    return _answer(target, {"code": code}, issuer)


def failure(target: RedirectTarget, error: OAuthError, *, issuer: str) -> dict[str, str]:
    """The members of a refusal: error, error_description, state, iss (RFC 6749 4.1.2.1, RFC 9207 2)."""
    return _answer(target, {"error": str(error.code), "error_description": error.description}, issuer)


def signed_response_claims(
    target: RedirectTarget, answer: Mapping[str, str], *, now: int
) -> dict[str, object]:
    """The claims of a signed response that says the answer (JARM 2.1); iss stands among its members."""
    return {**answer, "aud": target.client_id, "exp": now + _SIGNED_RESPONSE_SECONDS}


def _answer(target: RedirectTarget, answer: dict[str, str], issuer: str) -> dict[str, str]:
    if target.state is not None:
        answer["state"] = target.state
    return answer | {"iss": issuer}


def answer_url(target: RedirectTarget, answer: Mapping[str, str]) -> str:
    """The redirect that carries these members."""
    # A registered query is kept as it is: the answer is appended to it (RFC 6749 3.1.2).
    separator = "&" if "?" in target.redirect_uri else "?"
    return target.redirect_uri + separator + urlencode(answer)
