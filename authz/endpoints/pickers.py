"""Pickers: the finder of the records that a request is for, asked in the name of the person at the pages.

A record that was picked is looked at again before each new token: the token opens it, so whoever may not see it any more
gets none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from authz.clock import Clock
from authz.login.finding import Asker, Choice, Finder, Found, asker_of
from authz.login.language import ENGLISH, Language
from authz.protocol import granting
from authz.protocol.clients import Client
from authz.protocol.granting import ServerBits
from authz.protocol.openid import Subjects
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Binding, Grant

_PATIENTS = ("user/Patient.rs",)
_VISITS = ("Encounter.rs", "Patient.rs")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody for whom a finder is asked, with the grant that the app has or would get of this person."""

    finder: Finder
    grant: Grant
    subject: str
    binding: Binding
    request: HttpRequest
    language: Language = ENGLISH


class Pickers:
    """Asks finders. Its methods raise FinderUnavailable."""

    def __init__(
        self,
        *,
        issuer: str,
        finders: Mapping[str, Finder],
        server: ServerBits,
        subjects: Subjects,
        clock: Clock,
    ) -> None:
        """finders are by the identifier of their resource."""
        self._issuer = issuer
        self._finders = finders
        self._server = server
        self._subjects = subjects
        self._clock = clock

    def audience(self, parameters: Mapping[str, str]) -> tuple[str, ...]:
        """The resources that a request is for. Raises OAuthError(INVALID_TARGET)."""
        return granting.audience(parameters, self._server)

    def for_grant(
        self,
        grant: Grant,
        client: Client,
        binding: Binding,
        request: HttpRequest,
        language: Language = ENGLISH,
    ) -> Person | None:
        """The person of a grant; None where none of its resources has a finder. The first that has one counts."""
        for name in self.searched(grant.audience):
            aimed = replace(grant, audience=(name,))
            subject = self._subjects.of(client, grant.subject)
            return Person(self._finders[name], aimed, subject, binding, request, language)
        return None

    def searched(self, audience: tuple[str, ...]) -> tuple[str, ...]:
        """The resource whose finder is asked, all that a record picked there is known of: elsewhere its id is another's."""
        return tuple(name for name in audience if name in self._finders)[:1]

    async def find_patients(self, person: Person, words: str) -> Found:
        """The patients of these words that the person may see."""
        return await person.finder.find_patients(self._asker(person, _PATIENTS, {}), words)

    async def patient(self, person: Person, id: str) -> Choice | None:
        """The patient of this id; None when the person may not see it."""
        return await person.finder.patient(self._asker(person, _PATIENTS, {}), id)

    async def find_encounters(self, person: Person, patient: str, *, in_context: str) -> Found:
        """The visits of a patient that the person may see, as 'user' or as this 'patient'."""
        asker = self._visits_asker(person, patient, in_context)
        return await person.finder.find_encounters(asker, patient)

    async def encounter(self, person: Person, id: str, patient: str, *, in_context: str) -> Choice | None:
        """The visit of this id; None when it is not this patient's, or the person may not see it."""
        asker = self._visits_asker(person, patient, in_context)
        return await person.finder.encounter(asker, id, patient)

    def _visits_asker(self, person: Person, patient: str, in_context: str) -> Asker:
        scope = tuple(f"{in_context}/{kind}" for kind in _VISITS)
        return self._asker(person, scope, {"patient": patient} if in_context == "patient" else {})

    def _asker(self, person: Person, scope: tuple[str, ...], context: Mapping[str, object]) -> Asker:
        return asker_of(
            person.grant,
            person.request,
            issuer=self._issuer,
            subject=person.subject,
            binding=person.binding,
            scope=scope,
            context=context,
            now=self._clock(),
            language=person.language,
        )
