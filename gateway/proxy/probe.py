"""What a store says of itself and does, held against its profile and the policies, before callers depend on it.

Three requests, none about a person: its CapabilityStatement, a search for an id that nobody has, and a search with a
parameter that does not exist. What is kept of the answers are versions, names of parameters and yes or no.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.fhir import resource
from gateway.fhir.outcome import FhirError
from gateway.fhir.resource import objects
from gateway.proxy import headers
from gateway.proxy.answers.self_links import echoes
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import SelfLink

_SECONDS = 20.0
_LIMIT_BYTES = 16 * 1024 * 1024
_UNKNOWN = "securus-unknown-parameter"


class Level(StrEnum):
    """How much a finding matters."""

    WARNING = "warning"  # something will be slower, or refused
    ERROR = "error"  # the store is not what the profile says: searches cannot be narrowed safely


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as expected."""

    level: Level
    message: str


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe found. software and fhir_version are the store's own words, cut to printable ASCII."""

    upstream: str
    profile: str
    software: str = ""
    fhir_version: str = ""
    findings: tuple[Finding, ...] = field(default=())

    @property
    def is_right(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.level is not Level.ERROR for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """The result as operators see it."""
        return {
            "upstream": self.upstream,
            "profile": self.profile,
            "software": self.software,
            "fhir_version": self.fhir_version,
            "ok": self.is_right,
            "findings": [{"level": str(f.level), "message": f.message} for f in self.findings],
        }


async def probe(client: UpstreamClient, criteria: Mapping[str, frozenset[str]]) -> ProbeResult:
    """Ask the store. criteria are the search parameters that policies may add, by type. Raises nothing."""
    upstream, profile = client.upstream, client.upstream.profile
    try:
        async with asyncio.timeout(_SECONDS):
            status, statement = await _ask(client, "metadata")
            if status != 200 or statement.get("resourceType") != "CapabilityStatement":
                finding = Finding(Level.ERROR, f"GET metadata gives {status} and no CapabilityStatement")
                return ProbeResult(upstream.name, profile.name, findings=(finding,))
            findings = [*_of_statement(statement, criteria, if_match=profile.if_match)]
            findings += await _of_searches(client)
    except TimeoutError:
        finding = Finding(Level.ERROR, f"the store did not answer within {_SECONDS:g} s")
        return ProbeResult(upstream.name, profile.name, findings=(finding,))
    except FhirError as error:
        finding = Finding(Level.ERROR, f"the store cannot be asked: {error.reason}")
        return ProbeResult(upstream.name, profile.name, findings=(finding,))
    software = statement.get("software")
    named = software if isinstance(software, dict) else {}
    return ProbeResult(
        upstream.name,
        profile.name,
        _printable(f"{named.get('name', '')} {named.get('version', '')}".strip()),
        _printable(statement.get("fhirVersion")),
        tuple(findings),
    )


def _of_statement(
    statement: Mapping[str, Any], criteria: Mapping[str, frozenset[str]], *, if_match: bool
) -> list[Finding]:
    found = []
    version = _printable(statement.get("fhirVersion"))
    if not version.startswith("4.0."):
        found.append(Finding(Level.ERROR, f"the store speaks FHIR '{version}', expected 4.0.x"))
    resources: dict[str, set[str]] = {}
    versioning: set[str] = set()
    for rest in objects(statement.get("rest")):
        common = {each.get("name") for each in objects(rest.get("searchParam"))}
        for each in objects(rest.get("resource")):
            offered = {parameter.get("name") for parameter in objects(each.get("searchParam"))}
            if any(act.get("code") == "search-type" for act in objects(each.get("interaction"))):
                resources[str(each.get("type"))] = {str(name) for name in offered | common}
            if each.get("versioning") is not None:
                versioning.add(str(each["versioning"]))
    for type_ in sorted(criteria.keys() & resources.keys()):
        missing = sorted(criteria[type_] - resources[type_] - {"_id"})  # _id is tried below
        if missing:
            said = f"policies narrow {type_} by '{missing[0]}', which the store does not list among its parameters"
            found.append(Finding(Level.WARNING, said))
    if if_match and versioning and versioning == {"no-version"}:
        said = "the profile says that If-Match is supported, but the store keeps no versions"
        found.append(Finding(Level.WARNING, said))
    return found


async def _of_searches(client: UpstreamClient) -> list[Finding]:
    found = []
    profile = client.upstream.profile
    nobody = f"securus-probe-{secrets.token_hex(8)}"
    status, bundle = await _ask(client, f"Patient?_id={nobody}&_count=1")
    if status != 200:
        found.append(Finding(Level.WARNING, f"a search by _id gives {status}"))
    else:
        if any(
            entry.get("search", {}).get("mode") != "outcome"
            if isinstance(entry.get("search"), dict)
            else True
            for entry in objects(bundle.get("entry"))
        ):
            said = "a search for an id that nobody has finds somebody: the store ignores criteria"
            found.append(Finding(Level.ERROR, said))
        urls = [str(e.get("url")) for e in objects(bundle.get("link")) if e.get("relation") == "self"]
        if profile.self_link is SelfLink.CHECKED and not any(echoes(url, (f"_id={nobody}",)) for url in urls):
            said = (
                "the self link of a search does not name its criteria: 'self_link: unreliable' would say so"
            )
            found.append(Finding(Level.ERROR if urls else Level.WARNING, said))
    status, _ = await _ask(client, f"Patient?{_UNKNOWN}=1&_id={nobody}")
    if profile.strict_handling and status == 200:
        said = "a parameter that does not exist is skipped although strict handling was asked for"
        found.append(Finding(Level.WARNING, said))
    return found


async def _ask(client: UpstreamClient, target: str) -> tuple[int, dict[str, Any]]:
    """The status and, of a 200, the resource. Raises FhirError."""
    sent = headers.of_our_own(client.upstream)
    async with await client.send("GET", target, sent) as answer:
        if answer.status != 200:
            return answer.status, {}
        return 200, resource.parse_resource(await answer.read(_LIMIT_BYTES))


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(c for c in text[:80] if c.isascii() and c.isprintable())
