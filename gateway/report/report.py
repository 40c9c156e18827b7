"""The report: every rule with every one that it applies to, as values, text and JSON."""

from collections.abc import Iterator
from dataclasses import dataclass

from authz.protocol.clients import ProfileName
from gateway.report.rules import fapi_message_signing, fapi_security_profile, oauth_2_1, security_bcp
from gateway.report.rules.facts import ClientFacts, Facts
from gateway.report.rules.table import Finding, Rule, Verdict, not_applicable, passed

SERVER = "server"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A specification with its rules. profile is the one whose clients it speaks of; None when it speaks of all."""

    title: str
    rules: tuple[Rule, ...]
    profile: ProfileName | None = None


CHAPTERS: tuple[Chapter, ...] = (
    Chapter("FAPI 2.0 Security Profile", fapi_security_profile.RULES, ProfileName.FAPI2),
    Chapter("FAPI 2.0 Message Signing", fapi_message_signing.RULES, ProfileName.FAPI2),
    Chapter("OAuth 2.1", oauth_2_1.RULES),
    Chapter("RFC 9700, OAuth 2.0 Security BCP", security_bcp.RULES),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one rule says of the server or of one client."""

    chapter: str
    rule: Rule
    subject: str  # server, or a client_id
    finding: Finding

    def as_json(self) -> dict[str, object]:
        """The row as a JSON object."""
        return {
            "specification": self.chapter,
            "rule": self.rule.id,
            "clause": self.rule.clause,
            "text": self.rule.text,
            "applies_to": self.rule.applies_to,
            "subject": self.subject,
            "verdict": str(self.finding.verdict),
            "why": self.finding.why,
            "setting": self.finding.setting,
            "enforced_by": self.rule.module,
            "held_by": self.rule.held_by,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All rows, in the order of the tables."""

    issuer: str
    made_at: int
    rows: tuple[Row, ...]

    def count(self, verdict: Verdict) -> int:
        """How many rows have this verdict."""
        return sum(row.finding.verdict is verdict for row in self.rows)

    @property
    def failures(self) -> tuple[Row, ...]:
        """The rows that fail."""
        return tuple(row for row in self.rows if row.finding.verdict is Verdict.FAIL)

    @property
    def unmet(self) -> tuple[Row, ...]:
        """The failures of a profile that is declared: a server with one is not what it says."""
        declared = {chapter.title for chapter in CHAPTERS if chapter.profile is not None}
        return tuple(row for row in self.failures if row.chapter in declared)

    def as_json(self) -> dict[str, object]:
        """The report as one JSON object."""
        return {
            "issuer": self.issuer,
            "made_at": self.made_at,
            "met": not self.failures,
            "counts": {str(verdict): self.count(verdict) for verdict in Verdict},
            "rows": [row.as_json() for row in self.rows],
        }

    def lines(self) -> Iterator[str]:
        """The report as text: one line a row, a heading for each specification, the counts last."""
        chapter = ""
        for row in self.rows:
            if row.chapter != chapter:
                chapter = row.chapter
                yield f"\n{chapter}"
            said = f"{row.finding.verdict:<14} {row.rule.id:<20} {row.subject}: {row.rule.text}: {row.finding.why}"
            yield said + (f"  -> {row.finding.setting}" if row.finding.setting else "")
        counts = ", ".join(f"{self.count(verdict)} {verdict}" for verdict in Verdict)
        yield f"\n{self.issuer}: {counts}"


def make(facts: Facts) -> Report:
    """Every rule held against the facts."""
    rows = [row for chapter in CHAPTERS for rule in chapter.rules for row in _rows(chapter, rule, facts)]
    return Report(facts.settings.issuer, facts.now, tuple(rows))


def _rows(chapter: Chapter, rule: Rule, facts: Facts) -> Iterator[Row]:
    if chapter.profile is not None and chapter.profile not in facts.settings.profiles:
        yield Row(
            chapter.title, rule, SERVER, not_applicable(f"the profile {chapter.profile} is switched off")
        )
    elif rule.client is not None:
        for found in facts.clients:
            yield Row(chapter.title, rule, found.client.client_id, _of_client(chapter, rule, found, facts))
        if not facts.clients:
            yield Row(chapter.title, rule, SERVER, not_applicable("there are no clients"))
    else:
        yield Row(chapter.title, rule, SERVER, _of_server(rule, facts))


def _of_server(rule: Rule, facts: Facts) -> Finding:
    if rule.server is not None:
        return rule.server(facts)
    if rule.outside:
        return not_applicable(f"this process cannot see it: {rule.outside}")
    return passed(f"always: {rule.module}")


def _of_client(chapter: Chapter, rule: Rule, found: ClientFacts, facts: Facts) -> Finding:
    if chapter.profile is not None and found.client.profile is not chapter.profile:
        return not_applicable(f"the client has the profile {found.client.profile}")
    assert rule.client is not None  # noqa: S101 - for the type checker
    finding = rule.client(found, facts)
    if finding.setting and "." not in finding.setting and "[" not in finding.setting:
        place = f"clients[{found.client.client_id}].{finding.setting}"
        return Finding(finding.verdict, finding.why, place)
    return finding
