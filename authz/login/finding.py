"""Finding the record that a person opens to an app: what the pages ask, and of whom (SMART App Launch 2.2, @167).

This server knows no records. Whoever stands before them answers as it would answer a request of this very person: what
the person may not see is not found, and what nobody decided about is not shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from authz.login.language import ENGLISH, Language
from authz.protocol.encoding import base64url
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Binding, Caller, Grant, access_token_claims, caller_of

_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the person as a token for the app would say it, and the request at whose pages the person is."""

    caller: Caller
    request: HttpRequest
    language: Language = ENGLISH


@dataclass(frozen=True, slots=True)
class Choice:
    """A patient or a visit as the person may see it. detail tells it from others of the same label."""

    id: str
    label: str
    detail: str = ""

    @property
    def words(self) -> str:
        """Both on one line."""
        return f"{self.label}, {self.detail}" if self.detail else self.label


@dataclass(frozen=True, slots=True)
class Found:
    """What was found. is_whole is False where there is more than a page; is_refused where the person may not ask."""

    choices: tuple[Choice, ...] = ()
    is_whole: bool = True
    is_refused: bool = False


class FinderUnavailable(Exception):
    """The records cannot be reached now. Nothing was decided. The text is for logs: it says why, and of nobody."""


class Finder(Protocol):
    """Finds patients and visits in the records of one resource. Every method raises FinderUnavailable."""

    @property
    def searches_per_minute(self) -> int:
        """How often one person may ask."""
        ...

    @property
    def lists_at_once(self) -> bool:
        """Whether patients are listed before the person searched, where they fit on a page."""
        ...

    async def find_patients(self, asker: Asker, words: str) -> Found:
        """Patients of these words: names, a birth date, an identifier. All that fit on a page without words."""
        ...

    async def patient(self, asker: Asker, id: str) -> Choice | None:
        """The patient of this id; None when the person may not see it."""
        ...

    async def find_encounters(self, asker: Asker, patient: str) -> Found:
        """Visits of this patient, the newest first."""
        ...

    async def encounter(self, asker: Asker, id: str, patient: str) -> Choice | None:
        """The visit of this id; None when it is not this patient's, or the person may not see it."""
        ...


def asker_of(
    person: Grant,
    request: HttpRequest,
    *,
    issuer: str,
    subject: str,
    binding: Binding,
    scope: tuple[str, ...],
    context: Mapping[str, object],
    now: int,
    language: Language = ENGLISH,
) -> Asker:
    """Who asks, by the grant that the app has or would get: the same claims and key, with this scope and context alone."""
    grant = Grant(
        grant_id=person.grant_id,
        client_id=person.client_id,
        subject=person.subject,
        scope=scope,
        audience=person.audience,
        context=context,
        claims=person.claims,
        authenticated_at=person.authenticated_at,
        acr=person.acr,
        amr=person.amr,
    )
    claims = access_token_claims(
        grant,
        issuer=issuer,
        token_id="picker",
        binding=binding,
        now=now,
        lifetime_seconds=_SECONDS,
        subject=subject,
    )
    return Asker(caller_of(claims, issuer=issuer), request, language)


def key_of_session(session_id: str) -> str:
    """What stands for the app's key while only the browser is known."""
    return base64url(sha256(session_id.encode()).digest())
