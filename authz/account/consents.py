"""The page /account/consents: what the patient permits and denies, amended and withdrawn here, with history and receipt.

A change needs a sign-in that is not older than ten minutes. Nothing is overwritten: each change is a version of its
own, and a withdrawal acts at once, also on the access of an app that was given with the consent.
"""

import json
from collections.abc import Callable, Mapping

from authz.account.accesses import Names
from authz.account.consent_form import CLASSES, PURPOSES, Filled, blank, filled, read_wish
from authz.account.consent_words import in_words, wish_words
from authz.account.desk import CONSENT, CONSENTS, FRESH_SECONDS, HISTORY, RECEIPT, AccountDesk, Door, Here
from authz.account.kept_file import kept_file
from authz.account.own_records import Actor, ActorKind, Author, NoRoom, OwnConsent, OwnConsents
from authz.endpoints.visits import PageError, page_query
from authz.events import ConsentChanged
from authz.grant_endings import end_grants
from authz.login.represented import Person
from authz.protocol.clients import Client, GrantType
from authz.protocol.request import Answer
from authz.revocations import Revocations
from authz.storage.store import Store

PAGE_CONSENTS = 20
"""Consents, or versions of one, that are shown on a page."""
_OPEN = frozenset({"draft", "proposed", "active"})
_MAX_DIGITS = 18
_REPEATABLE = frozenset({"class", "purpose"})
# So old a sign-in may be at most when the form is opened: time is left to fill it in.
_TO_FILL = FRESH_SECONDS // 2


class ConsentPages:
    """GET and POST /account/consents, and what lies below."""

    def __init__(
        self,
        *,
        desk: AccountDesk,
        consents: OwnConsents,
        store: Store,
        clients: Mapping[str, Client],
        names: Callable[[], Names],
        revocations: Revocations,
    ) -> None:
        self._desk = desk
        self._consents = consents
        self._store = store
        self._clients = clients
        self._names = names
        self._revocations = revocations

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door."""
        desk = self._desk
        return {
            CONSENTS: {
                "GET": desk.page_door(self.show),
                "POST": desk.form_door(self.withdraw, again=CONSENTS),
            },
            CONSENT: {
                "GET": desk.page_door(self.form),
                "POST": desk.form_door(self.write, again=CONSENT, repeatable=_REPEATABLE),
            },
            HISTORY: {"GET": desk.page_door(self.history)},
            RECEIPT: {"GET": desk.page_door(self.receipt)},
        }

    async def show(self, here: Here, *, said: str = "", problem: str = "", status: int = 200) -> Answer:
        """A page of the consents of the patient, those in force first; its place stands in its address."""
        person = here.patient("see")
        place = here.form.get("before", "") if here.form else page_query(here.request).get("before", "")
        try:
            page = await self._consents.page(person.patient, before=place, limit=PAGE_CONSENTS)
        except ValueError as error:
            raise PageError("error.address_unreadable") from error
        names = self._names()
        found = [in_words(each, here.language, here.now, names) for each in page.consents]
        self._desk.tell(here, "consents", person)
        return self._desk.page(
            here,
            "consents.html",
            CONSENTS,
            status=status,
            consents=sorted(found, key=lambda each: not each.is_active),
            may_give=person.allows("consent"),
            may_withdraw=person.allows("revoke"),
            said=said,
            problem=problem,
            edit=CONSENT,
            history=HISTORY,
            receipt=RECEIPT,
            place=place,
            first=here.to(CONSENTS) if place else "",
            older=here.to(CONSENTS, before=page.before) if page.before else "",
        )

    async def withdraw(self, here: Here) -> Answer:
        """POST /account/consents: a consent is withdrawn, with the access of an app that was given with it."""
        person = here.patient("revoke")
        again = self._desk.must_sign_in_again(here, here.to(CONSENTS))
        if again is not None:
            return again
        consent = await self._newest(person, here.form.get("id", ""))
        if here.form.get("action") != "withdraw":
            raise PageError("error.no_consent")
        said = here.language.plain("consents.withdrawn")
        if consent.status not in _OPEN:
            return await self.show(here, said=said)  # what was asked for is so
        if consent.grant_id is not None:
            await self._end_grant(here, consent.grant_id)
        ended = await self._consents.withdraw(
            person.patient, consent, author=_author(here, person), now=here.now
        )
        if ended is None:  # with its grant it may have ended meanwhile, and whoever read it wrote that down
            ended = await self._newest(person, consent.id)
        if ended.status in _OPEN:
            problem = here.language.plain("consents.meanwhile")
            return await self.show(here, problem=problem, status=409)
        self._tell(here, person, "withdrawn", ended)
        return await self.show(here, said=said)

    async def form(self, here: Here) -> Answer:
        """GET /account/consents/edit: the form of a new consent, or of one that is amended."""
        person = here.patient("consent")
        id_ = page_query(here.request).get("id", "")
        again = self._desk.must_sign_in_again(
            here, here.to(CONSENT, **({"id": id_} if id_ else {})), at_most=_TO_FILL
        )
        if again is not None:
            return again
        if not id_:
            return self._form(here, blank())
        consent = await self._newest(person, id_)
        if consent.wish is None or consent.status != "active" or consent.grant_id is not None:
            raise PageError("error.not_amended")
        return self._form(here, filled(consent.wish), amended=consent)

    async def write(self, here: Here) -> Answer:
        """POST /account/consents/edit: the consent is written, or the form comes back with what is missing."""
        person = here.patient("consent")
        form, language = here.form, here.language
        id_ = form.get("id", "")
        again = self._desk.must_sign_in_again(here, here.to(CONSENT, **({"id": id_} if id_ else {})))
        if again is not None:
            return again
        before = await self._newest(person, id_) if id_ else None
        if before is not None and (
            before.wish is None or before.status != "active" or before.grant_id is not None
        ):
            raise PageError("error.not_amended")
        if before is not None and form.get("version") != str(before.version):
            problem = language.plain("consents.meanwhile")
            return await self.show(here, problem=problem, status=409)
        sent = Filled.sent(form, here.ticked)
        wish, problems = read_wish(sent, self._choices(before), here.now, language)
        if wish is None:
            return self._form(here, sent, amended=before, problems=problems, status=400)
        try:
            written = await self._consents.write(
                person.patient,
                wish,
                author=_author(here, person),
                words=wish_words(wish, language),
                after=before,
                now=here.now,
            )
        except NoRoom:
            return await self.show(here, problem=language.plain("consents.many"), status=409)
        if written is None:
            return await self.show(here, problem=language.plain("consents.meanwhile"), status=409)
        self._tell(here, person, "given" if before is None else "amended", written)
        return await self.show(here, said=wish_words(wish, language))

    async def history(self, here: Here) -> Answer:
        """GET /account/consents/history: the versions of a consent, page by page."""
        person, query = here.patient("see"), page_query(here.request)
        id_, before = query.get("id", ""), _number(query.get("before", ""))
        found = await self._consents.history(person.patient, id_, before=before, limit=PAGE_CONSENTS + 1)
        if not found:
            raise PageError("error.no_consent", status=404)
        shown = found[:PAGE_CONSENTS]
        is_last = len(found) == len(shown)
        names = self._names()
        return self._desk.page(
            here,
            "consent_history.html",
            CONSENTS,
            versions=[in_words(each, here.language, here.now, names) for each in shown],
            receipt=RECEIPT,
            first="" if before is None else here.to(HISTORY, id=id_),
            older="" if is_last else here.to(HISTORY, id=id_, before=str(shown[-1].version)),
        )

    async def receipt(self, here: Here) -> Answer:
        """GET /account/consents/receipt: a version of a consent to keep.

        To read; signed with format=jwt, as FHIR with format=json.
        """
        person, query = here.patient("see"), page_query(here.request)
        number = _number(query.get("version", ""))
        consent = None
        if number is not None:
            consent = await self._consents.version(person.patient, query.get("id", ""), number)
        if consent is None:
            raise PageError("error.no_consent", status=404)
        if query.get("format") == "jwt":
            signed = await self._consents.receipt(person.patient, consent.id, consent.version, now=here.now)
            name = f"receipt-{consent.id}-{consent.version}.jwt"
            return kept_file((signed or "").encode(), "application/jwt", name)
        if query.get("format") == "json":
            return kept_file(
                json.dumps(consent.resource, ensure_ascii=False, indent=2).encode(),
                "application/fhir+json",
                f"consent-{consent.id}-{consent.version}.json",
            )
        return self._desk.page(
            here,
            "consent_receipt.html",
            CONSENTS,
            consent=in_words(consent, here.language, here.now, self._names()),
            signed=here.to(RECEIPT, id=consent.id, version=str(consent.version), format="jwt"),
            document=here.to(RECEIPT, id=consent.id, version=str(consent.version), format="json"),
        )

    def _form(
        self,
        here: Here,
        sent: Filled,
        *,
        amended: OwnConsent | None = None,
        problems: Mapping[str, str] | None = None,
        status: int = 200,
    ) -> Answer:
        return self._desk.page(
            here,
            "consent_form.html",
            CONSENT,
            status=status,
            sent=sent,
            choices=self._choices(amended),
            amended=amended,
            problems=problems or {},
            classes=CLASSES,
            purposes=PURPOSES,
        )

    def _choices(self, amended: OwnConsent | None) -> Mapping[ActorKind, list[Actor]]:
        """Whom a consent can be for, by kind; the one of an amended consent is always among them."""
        apps = [
            Actor(ActorKind.APP, client.client_id, client.name)
            for client in self._clients.values()
            if GrantType.AUTHORIZATION_CODE in client.grant_types
        ]
        found = {
            ActorKind.APP: apps,
            ActorKind.ORGANIZATION: list(self._consents.actors(ActorKind.ORGANIZATION)),
            ActorKind.PRACTITIONER: list(self._consents.actors(ActorKind.PRACTITIONER)),
        }
        actor = None if amended is None or amended.wish is None else amended.wish.actor
        if actor is not None and actor.id not in {each.id for each in found[actor.kind]}:
            found[actor.kind].append(actor)
        return {kind: sorted(each, key=lambda actor: actor.name.casefold()) for kind, each in found.items()}

    async def _newest(self, person: Person, id_: str) -> OwnConsent:
        """The newest version of a consent of this patient. Raises PageError."""
        found = await self._consents.version(person.patient, id_) if id_ else None
        if found is None:
            raise PageError("error.no_consent", status=404)
        return found

    async def _end_grant(self, here: Here, grant_id: str) -> None:
        grant = await self._store.grant(grant_id, now=here.now)
        if grant is None:
            return
        await end_grants(
            self._store,
            subject=grant.subject,
            client_id=grant.client_id,
            now=here.now,
            access_token_seconds=self._desk.settings.lifetimes.access_token,
            who=f"person {here.account.subject}",
            why="the consent was withdrawn",
            emit=self._desk.emit,
            revocations=self._revocations,
            reason="person",
            only=frozenset({grant_id}),
        )

    def _tell(self, here: Here, person: Person, outcome: str, consent: OwnConsent) -> None:
        self._desk.emit(
            ConsentChanged(
                outcome,
                here.account.subject,
                self._consents.base,
                person.patient,
                consent.id,
                consent.version,
                person.relationship,
            )
        )


def _number(text: str) -> int | None:
    """The number of a version that an address names; None where it names none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else None


def _author(here: Here, person: Person) -> Author:
    return Author(here.account.subject, here.account.name, person.relationship)
