"""Rule, Finding and Verdict: a row of a table, and what it found."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from gateway.report.rules.facts import ClientFacts, Facts


class Verdict(StrEnum):
    """What a rule says of the server or of one client."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with its reason. setting is the key of gateway.yaml to change; empty where nothing is to change."""

    verdict: Verdict
    why: str
    setting: str = ""


ServerCheck = Callable[[Facts], Finding]
ClientCheck = Callable[[ClientFacts, Facts], Finding]


@dataclass(frozen=True, slots=True)
class Rule:
    """One statement of a specification, as it applies to the server or to each client.

    Exactly one of server, client, held_by and outside is given. held_by is for what no setting changes: the code does
    it always, module names the code and held_by the test that proves it, as 'path::name'. outside is for what this
    process cannot see, with who can.
    """

    id: str
    clause: str
    text: str
    server: ServerCheck | None = None
    client: ClientCheck | None = None
    module: str = ""
    held_by: str = ""
    outside: str = ""

    @property
    def applies_to(self) -> str:
        """server or client."""
        return "client" if self.client is not None else "server"


def passed(why: str) -> Finding:
    """The rule is met."""
    return Finding(Verdict.PASS, why)


def warned(why: str, setting: str) -> Finding:
    """The rule is met by the letter, or is a recommendation that is not followed."""
    return Finding(Verdict.WARN, why, setting)


def failed(why: str, setting: str) -> Finding:
    """The rule is not met."""
    return Finding(Verdict.FAIL, why, setting)


def not_applicable(why: str) -> Finding:
    """There is nothing here that the rule speaks of."""
    return Finding(Verdict.NOT_APPLICABLE, why)


@dataclass(frozen=True, slots=True)
class Specification:
    """A specification that rules are made of: what their ids begin with, and how it is cited."""

    prefix: str
    title: str

    def rule(
        self,
        clause: str,
        number: int,
        text: str,
        *,
        server: ServerCheck | None = None,
        client: ClientCheck | None = None,
        module: str = "",
        held_by: str = "",
        outside: str = "",
    ) -> Rule:
        """The number-th rule of a clause. The numbers are ours, so that an id stays what it is."""
        return Rule(
            id=f"{self.prefix}-{clause}-{number}",
            clause=f"{self.title} {clause}",
            text=text,
            server=server,
            client=client,
            module=module,
            held_by=held_by,
            outside=outside,
        )
