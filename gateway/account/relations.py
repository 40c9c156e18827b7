"""Who acts for whom by RelatedPerson resources of the base: searched as that person, and each found one verified.

The policies in force decide what the person may see of them; what they hide is not there. A RelatedPerson counts only with
the very identifier of the account, active, within its period, with a relationship that is known, and for a patient whose
birth date the person may see: acting ends at the age that the configuration says.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlencode

from authz.clock import Clock
from authz.login.finding import Asker, asker_of, key_of_session
from authz.login.language import ENGLISH
from authz.protocol.clients import BindingKind
from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Binding, Grant
from authz.settings import Account, Representation
from gateway.account.consent_document import ROLES
from gateway.account_settings import RelatedPersons
from gateway.config.ends import birthday, read_day, seconds_of
from gateway.fhir.dates import value_interval
from gateway.fhir.ids import is_id
from gateway.fhir.links import local_reference
from gateway.pickers.choices import patient_choice

CLIENT = "account-pages"
"""What stands for an app in the records of what was asked here."""
_SCOPE = ("user/RelatedPerson.rs", "user/Patient.rs")
_MOST = 20
_MOST_KEPT = 10_000
_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal() * 86400 * _SECOND


class Records(Protocol):
    """The part of gateway.pickers.finder.MountFinder that is asked. Its methods raise FinderUnavailable."""

    async def resources(self, asker: Asker, type_: str, form: str) -> list[Any]:
        """What a search finds that the person may see; nothing where they may not search so."""
        ...

    async def resource(self, asker: Asker, type_: str, id_: str) -> Mapping[str, Any] | None:
        """The resource of this id; None where the person may not see it."""
        ...


class RelatedPersonsAt:
    """authz.login.relations.Relations for one base. records is there later than this."""

    def __init__(
        self,
        settings: RelatedPersons,
        *,
        base: str,
        issuer: str,
        records: Callable[[], Records],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._base = base
        self._issuer = issuer
        self._records = records
        self._clock = clock
        self._kept: dict[str, tuple[int, tuple[Representation, ...]]] = {}

    async def with_related(self, account: Account, request: HttpRequest) -> Account:
        """The account with those whom RelatedPersons name; asked again every half minute. Raises FinderUnavailable."""
        if account.related_person is None:
            return account
        now = self._clock()
        kept = self._kept.get(account.subject)
        if kept is None or not kept[0] <= now < kept[0] + self._settings.keep:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            kept = (now, await self._found(account, request, now))
            self._kept[account.subject] = kept
        own = {each.patient for each in account.represents} | {account.patient}
        more = tuple(each for each in kept[1] if each.patient not in own)
        return replace(account, represents=(*account.represents, *more))

    async def _found(self, account: Account, request: HttpRequest, now: int) -> tuple[Representation, ...]:
        asker, records = self._asker(account, request, now), self._records()
        wanted = f"{self._settings.system}|{account.related_person}"
        form = urlencode([("identifier", wanted), ("active", "true"), ("_count", str(_MOST))])
        found: dict[str, Representation] = {}
        for related in (await records.resources(asker, "RelatedPerson", form))[:_MOST]:
            patient = self._patient_of(related, str(account.related_person), now)
            relationship = _relationship(related)
            if patient is None or relationship is None or patient in found:
                continue
            resource = await records.resource(asker, "Patient", patient)
            choice, born = patient_choice(resource), read_day(resource, "birthDate")
            if choice is None or choice.id != patient or born is None:
                continue  # nobody knows when it would end
            ends = seconds_of(birthday(born, self._settings.until_age))
            found[patient] = Representation(patient, choice.label, relationship, self._settings.may, ends)
        return tuple(found.values())

    def _patient_of(self, related: object, value: str, now: int) -> str | None:
        """The patient of a RelatedPerson that is verified to be this person's and in force; None for any other."""
        if not isinstance(related, dict) or related.get("resourceType") != "RelatedPerson":
            return None
        identifiers = related.get("identifier")
        known = any(
            isinstance(each, dict)
            and (each.get("system"), each.get("value")) == (self._settings.system, value)
            for each in (identifiers if isinstance(identifiers, list) else [])
        )
        if not known or related.get("active") is not True or "modifierExtension" in related:
            return None
        if "period" in related:
            interval = value_interval(related["period"])
            if interval is None or not interval[0] <= _EPOCH + now * _SECOND < interval[1]:
                return None
        reference = related.get("patient")
        text = reference.get("reference") if isinstance(reference, dict) else None
        place = local_reference(text, (self._base,)) if isinstance(text, str) else None
        if place is None or place.type != "Patient" or not is_id(place.id):
            return None
        return place.id

    def _asker(self, account: Account, request: HttpRequest, now: int) -> Asker:
        grant = Grant(
            grant_id=CLIENT,
            client_id=CLIENT,
            subject=account.subject,
            scope=(),
            audience=(self._base,),
            claims=account.claims,
            authenticated_at=now,
        )
        return asker_of(
            grant,
            request,
            issuer=self._issuer,
            subject=account.subject,
            binding=Binding(BindingKind.DPOP, key_of_session(account.subject)),
            scope=_SCOPE,
            context={},
            now=now,
        )


def _relationship(related: Mapping[str, Any]) -> str | None:
    """The first relationship of a RelatedPerson that the pages have words for."""
    concepts = related.get("relationship")
    for concept in concepts if isinstance(concepts, list) else []:
        codings = concept.get("coding") if isinstance(concept, dict) else None
        for coding in codings if isinstance(codings, list) else []:
            code = coding.get("code") if isinstance(coding, dict) and coding.get("system") == ROLES else None
            if isinstance(code, str) and ENGLISH.has(f"relationship.{code}"):
                return code
    return None
