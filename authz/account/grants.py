"""The page of a person's own grants, /account/grants: which apps have what access, and an end to it (SMART 2.2 @390).

What a person ends has ended at once, with every token that is out. Who acts for somebody sees and ends what was given
for that record; a patient sees what others gave in their stead, and may end it too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from authz.account.desk import GRANTS, AccountDesk, Door, Here
from authz.account.own_records import OwnAccesses
from authz.endpoints.visits import PageError
from authz.grant_endings import end_grants
from authz.login.launch import is_patients_own
from authz.login.plain_words import in_words, plain_words
from authz.protocol.clients import Client
from authz.protocol.request import Answer
from authz.protocol.tokens import Grant
from authz.revocations import Revocations
from authz.settings import Account
from authz.storage.store import Store

GRANTS_OF_AN_APP = 10
"""So many of the grants to one app are told one by one: all of them end together."""


@dataclass(frozen=True, slots=True)
class GrantInWords:
    """A grant as its person reads it. given_by is '' for the person's own."""

    words: Sequence[str]
    record: str
    since: str
    used: str
    seen: str
    until: str
    given_by: str


@dataclass(frozen=True, slots=True)
class AppInWords:
    """An app with the newest live grants of one person. subject is who gave them, '' for oneself; more are not told."""

    client_id: str
    name: str
    subject: str
    grants: Sequence[GrantInWords]
    more: int = 0


class GrantsPage:
    """GET and POST /account/grants."""

    def __init__(
        self,
        *,
        desk: AccountDesk,
        store: Store,
        clients: Mapping[str, Client],
        accounts: Mapping[str, Account],
        revocations: Revocations,
        accesses: OwnAccesses | None,
    ) -> None:
        """accounts are by subject."""
        self._desk = desk
        self._store = store
        self._clients = clients
        self._accounts = accounts
        self._revocations = revocations
        self._accesses = accesses

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door."""
        return {
            GRANTS: {
                "GET": self._desk.page_door(self.show),
                "POST": self._desk.form_door(self.revoke, again=GRANTS),
            }
        }

    async def show(self, here: Here, *, ended: str = "") -> Answer:
        """The apps that have access now."""
        apps: dict[tuple[str, str], list[Grant]] = {}
        for grant in await self.live(here):
            giver = "" if grant.subject == here.account.subject else grant.subject
            apps.setdefault((grant.client_id, giver), []).append(grant)
        told = [grant.grant_id for found in apps.values() for grant in found[:GRANTS_OF_AN_APP]]
        seen = {} if self._accesses is None or not told else await self._accesses.last_use(told)
        listed = []
        for (client_id, giver), found in apps.items():
            words = [await self._in_words(grant, here, seen) for grant in found[:GRANTS_OF_AN_APP]]
            listed.append(AppInWords(client_id, self._name(client_id), giver, words, len(found) - len(words)))
        if here.whom is not None:
            self._desk.tell(here, "apps", here.whom)
        return self._desk.page(
            here,
            "grants.html",
            GRANTS,
            apps=listed,
            ended=ended,
            may_end=here.whom is None or here.whom.allows("revoke"),
        )

    async def live(self, here: Here) -> list[Grant]:
        """The live grants that this page is about: all of a person without a record, else those for the record.

        With the own record go those of no record, such as the sign-in to an app.
        """
        givers = [here.account.subject, *(a.subject for a in self._others(here))]
        found = []
        for subject in givers:
            for grant in await self._store.grants(subject=subject, client_id=None, now=here.now):
                is_own = subject == here.account.subject
                if grant.authenticated_at is not None and self._is_about(grant, here, is_own=is_own):
                    found.append(grant)
        return found

    async def revoke(self, here: Here) -> Answer:
        """Every grant of this person to one app has ended, with its tokens; of somebody represented, those for them.

        An app that has no grant of this person, or does not exist, is told alike: what was asked for is so.
        """
        client_id = here.form.get("client", "")
        if here.form.get("action") != "revoke" or not client_id:
            raise PageError("error.no_app")
        if here.whom is not None:
            here.patient("revoke")
        giver = here.form.get("giver", "") or here.account.subject
        account = here.account
        acting = "" if here.whom is None or here.whom.is_self else f" as {here.whom.relationship}"
        ended = await end_grants(
            self._store,
            subject=giver,
            client_id=client_id,
            now=here.now,
            access_token_seconds=self._desk.settings.lifetimes.access_token,
            who=f"person {account.subject}{acting}",
            why="ended on the page of own grants",
            emit=self._desk.emit,
            revocations=self._revocations,
            reason="person",
            only=frozenset(g.grant_id for g in await self.live(here) if g.subject == giver),
        )
        return await self.show(here, ended=self._name(client_id) if ended else "")

    def _others(self, here: Here) -> list[Account]:
        """Whoever else may have opened the record of this page to an app: those who act for the patient, the patient."""
        if here.whom is None:
            return []
        patient = here.whom.patient
        return [
            account
            for account in self._accounts.values()
            if account.subject != here.account.subject
            and (account.patient == patient or any(each.patient == patient for each in account.represents))
        ]

    def _is_about(self, grant: Grant, here: Here, *, is_own: bool) -> bool:
        patient = grant.context.get("patient")
        if here.whom is None or not is_patients_own(here.account):
            return is_own
        if patient is None:
            return is_own and (here.whom.is_self or here.account.patient is None)
        return patient == here.whom.patient or (
            is_own and here.whom.is_self and patient not in {each.patient for each in here.people}
        )

    async def _in_words(self, grant: Grant, here: Here, seen: Mapping[str, int]) -> GrantInWords:
        language = here.language
        kinds = {kind.name: kind for kind in self._desk.settings.detail_types}
        details = [in_words(detail, kinds, language) for detail in grant.authorization_details]
        patient = str(grant.context.get("patient", ""))
        labels = {**dict(here.account.patients), **{each.patient: each.label for each in here.people}}
        until = self._until(grant, here)
        if grant.session_id is not None and (grant.ends_at or 0) > here.now:
            is_there = await self._store.session(grant.session_id, now=here.now) is not None
            until = language.plain("grants.you_sign_out" if is_there else "grants.ending")
        at = seen.get(grant.grant_id)
        not_yet = language.plain("grants.not_yet")
        giver = self._accounts.get(grant.subject)
        return GrantInWords(
            words=[
                *(plain_words(text, language) for text in grant.scope),
                *(language.plain("detail.only", words=words) for words in details),
            ],
            record=labels.get(patient, patient),
            since=language.when(grant.created_at),
            used=not_yet if grant.used_at is None else language.when(grant.used_at),
            seen="" if self._accesses is None else not_yet if at is None else language.when(at / 1000),
            until=until,
            given_by="" if giver is None or giver.subject == here.account.subject else giver.name,
        )

    def _name(self, client_id: str) -> str:
        client = self._clients.get(client_id)
        return client_id if client is None else client.name

    def _until(self, grant: Grant, here: Here) -> str:
        if grant.ends_at is None:
            return here.language.plain("grants.not_begun")
        if grant.ends_at <= here.now:
            return here.language.plain("grants.ending")
        return here.language.when(grant.ends_at)
