"""Jobs and files of an export, sealed: where the store has them is encrypted and bound to whom they belong.

A job is its client's and its subject's, at one mount. It outlives the token that began it, so it is not bound to the
grant. The policies that it was begun under stand in it: under others it is ended, not shown.
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

LIFETIME_SECONDS = 86400
_MAX_TOKEN = 7600


@dataclass(frozen=True, slots=True)
class Job:
    """An export that the store works on, or one file of it.

    id           of the job, by which its end is noted once
    slot         which of the client's places it takes
    asked        the kick-off as the caller made it
    target       of status or file, relative to the store's base
    type         of the file's lines; None for the job itself
    policy_hash  the policies that it was begun under
    """

    id: str
    slot: int
    asked: FhirRequest
    target: str
    type: str | None
    policy_hash: str
    expires_at: int


class SealedJobs:
    """Seals and opens the jobs of one mount."""

    def __init__(self, key: bytes, mount: str) -> None:
        self._cipher = AESGCM(key)
        self._mount = mount
        self._decode = msgspec.json.Decoder(Job).decode

    def seal(self, job: Job, *, caller: Caller) -> str:
        """The token of a job or of a file."""
        content = zlib.compress(msgspec.json.encode(job))
        nonce = secrets.token_bytes(12)
        bound_to = self._bound_to(caller, is_file=job.type is not None)
        return base64url(nonce + self._cipher.encrypt(nonce, content, bound_to))

    def open(self, token: str, *, caller: Caller, is_file: bool, now: int) -> Job | None:
        """What a token stands for; None when it is not this caller's, of the other kind, or too old."""
        if len(token) > _MAX_TOKEN:
            return None
        try:
            sealed = base64url_decode(token)
            content = self._cipher.decrypt(sealed[:12], sealed[12:], self._bound_to(caller, is_file=is_file))
            job = self._decode(zlib.decompress(content))
        except (ValueError, InvalidTag, zlib.error, msgspec.DecodeError):
            return None
        return job if job.expires_at > now else None

    def _bound_to(self, caller: Caller, *, is_file: bool) -> bytes:
        kind = "export-file" if is_file else "export-job"
        return "\n".join((kind, self._mount, caller.issuer, caller.subject, caller.client_id)).encode()
