"""The page /account/accesses: who saw the record, when, for what purpose and under which rule.

It tells what the audit log holds about the patient, from the index of it. Names are those of accounts and apps of this
house; whoever is not known any more stands there by their identifier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from authz.account.desk import ACCESSES, AccountDesk, Door, Here
from authz.account.own_records import OwnAccesses
from authz.endpoints.visits import PageError, page_query
from authz.login.language import Language
from authz.login.plain_words import type_words
from authz.protocol.clients import Client
from authz.protocol.openid import Subjects
from authz.protocol.request import Answer
from authz.settings import Account
from authz.storage.audit_index import AccessEntry

PAGE_ENTRIES = 50
_OWN = "own-record"
_NOT_REFUSED = frozenset({"permit", "nothing", "allowed", "ok", "begun", "given", "amended", "withdrawn"})
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class AccessInWords:
    """An access as its patient reads it. by is '' where an app acts for itself."""

    when: str
    what: str
    by: str
    organization: str
    app: str
    purposes: str
    rules: str
    outcome: str
    refused: bool


class Names:
    """The names of those who stand in the audit log, and of those who write consents down."""

    def __init__(
        self, accounts: Mapping[str, Account], clients: Mapping[str, Client], subjects: Subjects
    ) -> None:
        """accounts are by subject."""
        self._accounts = accounts
        self._clients = clients
        self._subjects = subjects
        self._pairwise: dict[str, Mapping[str, Account]] = {}

    def app(self, client_id: str) -> str:
        """The name of an app."""
        client = self._clients.get(client_id)
        return client_id if client is None else client.name

    def recorder(self, recorded_by: str) -> str:
        """The name of the person, or else of the app, by whom a consent was written down."""
        account = self._accounts.get(recorded_by)
        return self.app(recorded_by) if account is None else account.name

    def account(self, entry: AccessEntry) -> Account | None:
        """The account of a user, also of one whom the app knows by an identifier of its own (OpenID Connect Core 8)."""
        found = self._accounts.get(entry.user)
        client = self._clients.get(entry.client)
        if found is not None or client is None:
            return found
        if client.client_id not in self._pairwise:
            known = {self._subjects.of(client, subject): each for subject, each in self._accounts.items()}
            self._pairwise[client.client_id] = known
        return self._pairwise[client.client_id].get(entry.user)

    def organization(self, entry: AccessEntry) -> str:
        """The organization of the person, else of the app, as their claims name it."""
        account, client = self.account(entry), self._clients.get(entry.client)
        claims = {} if account is None else account.claims
        found = claims.get("organization") or ({} if client is None else client.claims).get("organization")
        return found if isinstance(found, str) else ""


class AccessesPage:
    """GET /account/accesses."""

    def __init__(
        self,
        *,
        desk: AccountDesk,
        accesses: OwnAccesses,
        names: Callable[[], Names],
    ) -> None:
        self._desk = desk
        self._accesses = accesses
        self._names = names

    def routes(self) -> Mapping[str, Mapping[str, Door]]:
        """path → method → door."""
        return {ACCESSES: {"GET": self._desk.page_door(self.show)}}

    async def show(self, here: Here) -> Answer:
        """A page of accesses, of the days that were asked for; paging and filter stand in its address."""
        person, query = here.patient("see"), page_query(here.request)
        asked = {name: query.get(name, "").strip() for name in ("from", "to")}
        problem = ""
        try:
            since, until = milliseconds(asked["from"]), milliseconds(asked["to"], end=True)
        except ValueError:
            problem, since, until = here.language.plain("accesses.no_day"), None, None
        if since is not None and until is not None and since >= until:
            problem = here.language.plain("accesses.no_days")
        entries: Sequence[AccessEntry] = ()
        before = ""
        if not problem:
            try:
                found = await self._accesses.of(
                    person.patient,
                    since=since,
                    until=until,
                    before=query.get("before", ""),
                    limit=PAGE_ENTRIES,
                )
            except ValueError as error:
                raise PageError("error.address_unreadable") from error
            entries, before = found.entries, found.before
        self._desk.tell(here, "accesses", person)
        names = self._names()
        kept = {name: value for name, value in asked.items() if value}
        return self._desk.page(
            here,
            "accesses.html",
            ACCESSES,
            status=400 if problem else 200,
            accesses=[
                in_words(entry, here.language, names)
                for entry in entries
                if not (entry.kind == _OWN and entry.user == here.account.subject and person.is_self)
            ],
            older=here.to(ACCESSES, **kept, before=before) if before else "",
            newest=here.to(ACCESSES, **kept) if query.get("before") else "",
            problem=problem,
            asked=asked,
        )


def milliseconds(day: str, *, end: bool = False) -> int | None:
    """The begin, or the end, of a day in UTC, as milliseconds since 1970; None for ''. Raises ValueError."""
    if not day:
        return None
    try:
        begin = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
        return round((begin + (_DAY if end else timedelta())).timestamp() * 1000)
    except OverflowError as error:
        raise ValueError("no such day") from error


def in_words(entry: AccessEntry, language: Language, names: Names) -> AccessInWords:
    """An entry of the index for the patient."""
    account = names.account(entry)
    types = [type_words(type_, language) for type_ in entry.types.split()]
    known = language.has(f"access.{entry.kind}")
    kind = language.of("access", entry.kind) if known else language.plain("accesses.kind", kind=entry.kind)
    what = language.plain("accesses.what", kind=kind, types=language.listed(types)) if types else kind
    refused = entry.outcome not in _NOT_REFUSED
    is_client = entry.user in ("", entry.client)
    return AccessInWords(
        when=language.when(entry.at / 1000),
        what=what,
        by="" if is_client else entry.user if account is None else account.name,
        organization=names.organization(entry),
        app=names.app(entry.client) if entry.client else "",
        purposes=language.listed([language.of("purpose", code) for code in entry.purpose.split()]),
        rules=", ".join(entry.rule.split()),
        outcome=language.of("outcome", "refused" if refused else entry.outcome),
        refused=refused,
    )
