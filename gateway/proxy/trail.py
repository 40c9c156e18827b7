"""The trail of one request: what it was, who asked, what was decided and what went out, for the audit log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from authz.protocol.request import HttpRequest
from authz.protocol.tokens import Caller
from authz.resource_server import Presented
from authz.storage.effects import Emergency
from gateway.admission import Held
from gateway.emergencies import described
from gateway.fhir.formats import Wish
from gateway.fhir.interaction import FhirRequest
from gateway.fhir.request_target import canonical_text
from gateway.policy.obligations import NO_OBLIGATIONS, Obligations
from gateway.policy.shadow import Shadows
from gateway.proxy.answers.tally import Tally
from gateway.proxy.lookups.knowledge import Knowledge
from gateway.proxy.writes.conditional_turns import Turn

_OF_THE_SIGN_IN = ("auth_time", "acr", "authorization_details", "acting_as")
# Claims that the record of an access names whether or not policies do, and how the shipped definitions call them.
_OF_THE_PERSON = (
    ("organization", "org"),
    ("org_reference", "org_reference"),
    ("roles", "roles"),
    ("fhirUser", "user"),
)
_KNOWN_OF_THE_PERSON = frozenset(known for _, known in _OF_THE_PERSON)
_SECRETS = ("_token", "assertion", "password", "secret")  # of parameters that nobody should send in a URL
_TRACE_LENGTH = 55  # of version 00 (W3C Trace Context 3.2.2)


@dataclass(slots=True)
class Trail:
    """What one request did so far. started is a reading of time.perf_counter()."""

    request: HttpRequest
    interaction_id: str
    started: float
    base: str = ""  # the public URL of the FHIR base
    asked: FhirRequest | None = None
    caller: Caller | None = None
    # Of the caller, the claims that policies see.
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    decision: str = "refused"
    rules: tuple[str, ...] = ()
    explanation: str = ""
    reason: str | None = None
    upstream: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    answer_headers: tuple[tuple[str, str], ...] = ()
    policy_hash: str | None = None
    obligations: Obligations = NO_OBLIGATIONS  # those that are met
    under_way: tuple[Emergency, ...] = ()  # emergency access of this caller
    emergency: Emergency | None = None  # the one that this request goes by
    through: list[str] = field(default_factory=list)  # what led the caller to a Binary
    document: dict[str, object] | None = None  # what a Binary held, where a rule asked
    withheld: dict[str, object] | None = None  # what of a document did not go out
    presented_as: str | None = None  # 'html' where a view of a document went out instead of it
    content_bytes: int | None = None
    knowledge: Knowledge = field(default_factory=Knowledge)
    shadows: Shadows = field(default_factory=Shadows)
    wish: Wish = field(default_factory=Wish)
    entry: int | None = None  # of an entry of a Bundle: its index
    status: int = 0  # of an entry: that of its answer
    form: bytes | None = None  # of a search that was posted
    made: str | None = None  # the id of what was created
    looked_at: str = ""  # of criteria that found nothing: the number of the consents that were looked through
    turn: Turn | None = None  # of a conditional write: others look for the same after it
    held: Held | None = None  # places in limits of what is done at once
    presented: Presented | None = None  # the token, where one was

    def release(self) -> None:
        """Give back what it holds: there will be no answer."""
        if self.held is not None:
            self.held.release()

    @property
    def interaction(self) -> str:
        """The interaction in the words of policies; 'none' when the request could not be read."""
        return str(self.asked.interaction) if self.asked is not None else "none"

    def begun(self, route: str) -> dict[str, object]:
        """The record of a write that the store is about to get."""
        begun = self._what(route) | self.tally.about.record(in_part=False)
        return {**begun, "event": "write-begins", "decision": self.decision}

    def record(self, route: str, status: int) -> dict[str, object]:
        """The record of the request and its answer."""
        record = self._what(route)
        record |= {"event": "access", "decision": self.decision, "status": status}
        if self.reason is not None:
            record["reason"] = self.reason
        if self.explanation:
            record["explanation"] = self.explanation
        if self.through:
            record["through"] = list(self.through)
        if self.document is not None:
            record["document"] = self.document
        if self.presented_as is not None:
            record["presented_as"] = self.presented_as
        if self.withheld is not None:
            record["withheld"] = self.withheld
        record |= self._shadow()
        record |= self.tally.about.record()
        if self.made is not None:
            record["resource_id"] = self.made
        if self.tally.shown or self.tally.dropped:
            record["entries"] = {"shown": self.tally.shown, "dropped": self.tally.dropped}
        return record

    def delivered(self, ended: str) -> dict[str, object]:
        """The second record of a long answer: how it ended, and what had gone out by then."""
        more = self.tally.about.record()
        return {
            **(self._what("") if more.get("patients") else {"interaction_id": self.interaction_id}),
            **more,
            "event": "delivered",
            "ended": ended,
            "shown": self.tally.shown,
            "dropped": self.tally.dropped,
            **({} if self.content_bytes is None else {"bytes": self.content_bytes}),
            **({} if self.withheld is None else {"withheld": self.withheld}),
            **self.knowledge.record(),
            **self._shadow(),
            **({} if self.entry is None else {"entry": self.entry}),
        }

    def of_entry(self, index: int, request: HttpRequest) -> "Trail":
        """The trail of an entry of this Bundle: the same caller and the same interaction id, a record of its own."""
        return Trail(
            request,
            self.interaction_id,
            self.started,
            self.base,
            caller=self.caller,
            policy_hash=self.policy_hash,
            known=self.known,
            knowledge=self.knowledge.for_entry(),
            shadows=self.shadows.of_entry(),
            entry=index,
        )

    def answered(self, status: int) -> "Trail":
        """The same trail, with the status of the entry's answer."""
        self.status = status
        return self

    def _received(self) -> dict[str, object]:
        """The request as it came, which BALP asks for: without what is sealed in a page link, and never with a secret."""
        http = self.request
        text = f"{http.method} {http.url}{'?' if http.query else ''}{http.query}"
        if self.form is not None:
            text += "\r\n\r\n" + self.form.decode("utf-8", "replace")
        lower = text.lower()
        if http.query.startswith("_page=") or any(name in lower for name in _SECRETS):
            return {}
        return {"received": text}

    def _shadow(self) -> dict[str, object]:
        """What policies in shadow would change."""
        found = self.shadows.record()
        return {"shadow": found} if found else {}

    def _what(self, route: str) -> dict[str, object]:
        asked, caller = self.asked, self.caller
        said: dict[str, object] = {
            "interaction_id": self.interaction_id,
            "method": self.request.method,
            "interaction": self.interaction,
            "peer": self.request.peer,
        }
        if route:
            said["route"] = route
        if self.base:
            said["base"] = self.base
        if self.request.query or self.form is not None or asked is None:
            said |= self._received()
        trace = self.request.headers.get("traceparent")
        if trace is not None and len(trace) == _TRACE_LENGTH:
            said["trace"] = trace
        if self.entry is not None:
            said["entry"] = self.entry
        if asked is not None:
            said["request"] = {
                "type": asked.type,
                "id": asked.id,
                "version": asked.version,
                "parameters": [term.name for term in asked.terms],
                "canonical": canonical_text(asked),
            }
            if asked.operation is not None:
                said["operation"] = asked.operation
        if caller is not None:
            who: dict[str, object] = {
                "issuer": caller.issuer,
                "subject": caller.subject,
                "client": caller.client_id,
                "grant": caller.grant_id,
                "token": caller.token_id,
                "patient": caller.claims.get("patient"),
                "binding": str(caller.binding.kind),
                "key": caller.binding.thumbprint,
                "scope": " ".join(caller.scope),
                "claims": dict(self.known),
            }
            who |= {name: caller.claims[name] for name in _OF_THE_SIGN_IN if name in caller.claims}
            if not self.known.keys() >= _KNOWN_OF_THE_PERSON:
                for name, known in _OF_THE_PERSON:
                    if name in caller.claims and known not in self.known:
                        who[name] = caller.claims[name]
            said["caller"] = who
            if purpose := caller.claims.get("purpose_of_use"):
                said["purpose"] = [purpose] if isinstance(purpose, str) else purpose
        if self.rules:
            said["rules"] = list(self.rules)
        if self.policy_hash is not None:
            said["policies"] = self.policy_hash
        if self.emergency is not None:
            said["audit"], said["emergency"] = "full", described(self.emergency)
        if self.upstream:
            said["upstream"] = list(self.upstream)
        return said | self.knowledge.record()
