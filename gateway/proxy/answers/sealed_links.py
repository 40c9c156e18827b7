"""Page links, sealed: what the store's link says is encrypted and bound to the caller, the mount and the policies.

A link of another person, another app, another grant or an older policy set opens for nobody. What is opened is
decided again like a new request: the seal saves the caller no check.
"""

import secrets
import zlib
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authz.protocol.encoding import base64url, base64url_decode
from authz.protocol.tokens import Caller
from gateway.fhir.interaction import FhirRequest

_LIFETIME_SECONDS = 3600
_MAX_TOKEN = 7600  # with the path before it, it fits into the URL that a listener takes


@dataclass(frozen=True, slots=True)
class Page:
    """What a link stands for: the request as the caller made it, and where the store continues.

    proof  the criteria of the gateway that the search has proved to be narrowed by
    """

    asked: FhirRequest
    target: str  # relative to the store's base
    expires_at: int
    proof: tuple[str, ...] = ()


class SealedLinks:
    """Seals and opens page links of one mount."""

    def __init__(self, key: bytes, mount: str) -> None:
        self._cipher = AESGCM(key)
        self._mount = mount
        self._decode = msgspec.json.Decoder(Page).decode

    def seal(
        self,
        asked: FhirRequest,
        target: str,
        *,
        caller: Caller,
        policy_hash: str,
        now: int,
        proof: tuple[str, ...] = (),
    ) -> str:
        """The token for a page."""
        # What was asked stands in it several times, the store's link included: long lists of ids fit in only when
        # they are said once.
        content = zlib.compress(msgspec.json.encode(Page(asked, target, now + _LIFETIME_SECONDS, proof)))
        nonce = secrets.token_bytes(12)
        return base64url(nonce + self._cipher.encrypt(nonce, content, self._bound_to(caller, policy_hash)))

    def open(self, token: str, *, caller: Caller, policy_hash: str, now: int) -> Page | None:
        """The page of a token; None when it is not this caller's, too old, or made under other policies."""
        if len(token) > _MAX_TOKEN:
            return None
        try:
            sealed = base64url_decode(token)
            content = self._cipher.decrypt(sealed[:12], sealed[12:], self._bound_to(caller, policy_hash))
            page = self._decode(zlib.decompress(content))
        except (ValueError, InvalidTag, zlib.error, msgspec.DecodeError):
            return None
        return page if page.expires_at > now else None

    def _bound_to(self, caller: Caller, policy_hash: str) -> bytes:
        parts = (
            self._mount,
            caller.issuer,
            caller.subject,
            caller.client_id,
            caller.grant_id or "",
            policy_hash,
        )
        return "\n".join(parts).encode()
