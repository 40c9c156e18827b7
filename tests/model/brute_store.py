"""A little FHIR store in memory that answers by brute force, honest or hostile; it shares no code with the gateway.

Honest: it honours every criterion, chains, `_has`, includes, filters, Lists and full text too, and pages by three.
Hostile: it honours nothing, calls everything a match or an include, brings outcomes and old versions along, and says
nothing of what it was asked.
"""

import json
import random
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from tests.model import brute_filter

Resource = dict[str, Any]
BASE = "http://upstream:8080/fhir"
PAGE = 3
# type → parameter → element, and the types that it may refer to
REFERENCES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "Patient": {"general-practitioner": ("generalPractitioner", ("Practitioner",))},
    "Observation": {
        "subject": ("subject", ("Patient",)),
        "patient": ("subject", ("Patient",)),
        "performer": ("performer", ("Patient", "Practitioner")),
        "encounter": ("encounter", ("Encounter",)),
        "focus": ("focus", ("Patient", "Practitioner")),
    },
    "Condition": {
        "subject": ("subject", ("Patient",)),
        "patient": ("subject", ("Patient",)),
        "encounter": ("encounter", ("Encounter",)),
        "asserter": ("asserter", ("Patient", "Practitioner")),
    },
    "Encounter": {"subject": ("subject", ("Patient",)), "patient": ("subject", ("Patient",))},
    "List": {"subject": ("subject", ("Patient",)), "patient": ("subject", ("Patient",))},
    "Practitioner": {},
}
_OF_RESULTS = ("_count", "_include", "_revinclude", "_sort", "_elements", "_summary", "_page", "max", "_type")


def key(resource: Resource) -> str:
    """Type and id."""
    return f"{resource['resourceType']}/{resource['id']}"


def listed(value: Any) -> list[Any]:
    """The value as a list."""
    return [] if value is None else value if isinstance(value, list) else [value]


def referred(resource: Resource, code: str) -> list[str]:
    """What a reference parameter finds in the resource."""
    found = REFERENCES[resource["resourceType"]].get(code)
    return [] if found is None else [each["reference"] for each in listed(resource.get(found[0]))]


class Answered:
    """An answer as UpstreamClient gives one, in pieces of an odd size."""

    def __init__(self, value: Any, status: int = 200, **headers: str) -> None:
        self.status = status
        self.piece = 997
        self.headers: Mapping[str, str] = {
            "content-type": "application/fhir+json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        self._body = value if isinstance(value, bytes) else json.dumps(value).encode()

    async def read(self, limit_bytes: int) -> bytes:
        """The whole."""
        return self._body

    async def stream(self) -> AsyncIterator[bytes]:
        """The pieces."""
        for start in range(0, len(self._body), self.piece):
            yield self._body[start : start + self.piece]

    def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> "Answered":
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()


class BruteStore:
    """The store. versions holds those of each resource, the newest last."""

    def __init__(self, versions: Mapping[str, list[Resource]], *, hostile: bool = False) -> None:
        self.versions = versions
        self.hostile = hostile
        self._pages: list[tuple[list[Any], str, str]] = []
        self._random = random.Random(len(versions))

    @property
    def current(self) -> list[Resource]:
        """The newest version of everything."""
        return [each[-1] for each in self.versions.values()]

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: Any = None) -> Answered:
        """The answer to a request."""
        path, _, query = target.partition("?")
        if body is not None:
            query = body.decode()
        parts, asked = path.strip("/").split("/"), parse_qsl(query, keep_blank_values=True)
        match parts:
            case [""] if asked and asked[0][0] == "_page":
                return self._page(int(asked[0][1]))
            case ["$export"] | ["Patient", "$export"]:
                return Answered(b"", 202, content_location=f"{BASE}/jobs/1")
            case ["jobs", "1"]:
                return self._manifest()
            case ["jobs", _, name]:
                lines = [r for r in self.current if self.hostile or r["resourceType"] == name]
                said = b"".join(json.dumps(r).encode() + b"\n" for r in lines)
                return Answered(said, content_type="application/fhir+ndjson")
            case ["Patient", id_, "$everything"]:
                own = [r for r in self.current if self._is_of(r, f"Patient/{id_}")]
                return self._bundle("searchset", [[(r, "match")] for r in own], target)
            case [type_, id_, "_history"]:
                found = self.versions.get(f"{type_}/{id_}", [])
                return self._bundle("history", [[(r, "")] for r in reversed(found)], target)
            case [type_, id_, "_history", version]:
                found = self.versions.get(f"{type_}/{id_}", [])
                return self._one([r for r in found if r["meta"]["versionId"] == version])
            case [type_, id_] if not id_.startswith(("_", "$")):
                return self._one(self.versions.get(f"{type_}/{id_}", [])[-1:])
            case [type_, *_]:
                return self._search(type_, asked, f"{type_}?{query}")
        return Answered({"resourceType": "OperationOutcome"}, 404)

    def finds(self, type_: str, asked: list[tuple[str, str]]) -> list[Resource]:
        """The matches of a search."""
        criteria = [(name, value) for name, value in asked if name.partition(":")[0] not in _OF_RESULTS]
        of_type = [r for r in self.current if r["resourceType"] == type_]
        return [r for r in of_type if all(self.meets(r, name, value) for name, value in criteria)]

    def meets(self, resource: Resource, name: str, value: str) -> bool:
        """One criterion."""
        if name.startswith("_has:"):
            _, source, code, rest = name.split(":", 3)
            naming = [r for r in self.current if r["resourceType"] == source]
            return any(key(resource) in referred(r, code) and self.meets(r, rest, value) for r in naming)
        head, dot, rest = name.partition(".")
        if dot:
            code, _, target = head.partition(":")
            led_to = [r for r in self.current if key(r) in referred(resource, code)]
            return any(self.meets(r, rest, value) for r in led_to if target in ("", r["resourceType"]))
        if name == "_filter":
            return brute_filter.holds(value, partial(self.meets, resource), partial(self._has, resource))
        if name == "_list":
            listing = self.versions.get(f"List/{value}", [{}])[-1]
            return key(resource) in [each["item"]["reference"] for each in listing.get("entry", [])]
        if name in ("_text", "_content"):
            return value in json.dumps(resource)
        wanted = value.split(",")
        if name == "_id":
            return resource["id"] in wanted
        if name in REFERENCES[resource["resourceType"]]:
            places = {w if "/" in w else f"Patient/{w}" for w in wanted}
            return bool(places & set(referred(resource, name)))
        if name == "category":
            codes = [c["code"] for each in resource.get("category", []) for c in each["coding"]]
            return bool({w.rpartition("|")[2] for w in wanted} & set(codes))
        if name in ("status", "gender"):
            return resource.get(name) in wanted
        raise AssertionError(f"the store does not know {name}")

    def _has(self, resource: Resource, name: str) -> bool:
        """Whether it says anything that this parameter looks at."""
        if name in REFERENCES[resource["resourceType"]]:
            return bool(referred(resource, name))
        return bool(resource.get(name.removeprefix("_")))

    def _search(self, type_: str, asked: list[tuple[str, str]], target: str) -> Answered:
        # What is brought along stands on the page of what leads to it (FHIR R4 3.1.1.5.4).
        groups = [
            [(match, "match"), *((r, "include") for r in self.current if self._is_beside(match, r, asked))]
            for match in self.finds(type_, asked)
        ]
        return self._bundle("searchset", groups, target)

    def _is_beside(self, match: Resource, other: Resource, asked: list[tuple[str, str]]) -> bool:
        """Whether a match brings the other resource along."""
        for name, value in asked:
            source, _, rest = value.partition(":")
            code = rest.partition(":")[0]
            if name.startswith("_include") and key(other) in referred(match, code):
                return True
            is_source = other["resourceType"] == source
            if name.startswith("_revinclude") and is_source and key(match) in referred(other, code):
                return True
        return False

    def _bundle(self, kind: str, groups: list[list[tuple[Resource, str]]], target: str) -> Answered:
        if self.hostile:
            everything = [r for each in self.versions.values() for r in each]
            modes = ("match", "match", "include", "outcome", "")
            groups = [[(r, self._random.choice(modes))] for r in everything]
            self._random.shuffle(groups)
        self._pages.append((groups, kind, target))
        return self._page((len(self._pages) - 1) * 1000)

    def _page(self, token: int) -> Answered:
        groups, kind, target = self._pages[token // 1000]
        start = token % 1000
        links = [] if self.hostile else [{"relation": "self", "url": f"{BASE}/{target}"}]
        if start + PAGE < len(groups):
            links.append({"relation": "next", "url": f"{BASE}?_page={token + PAGE}"})
        entries = []
        page = [each for group in groups[start : start + PAGE] for each in group]
        for resource, mode in [each for number, each in enumerate(page) if each not in page[:number]]:
            search = {"search": {"mode": mode}} if mode else {}
            entries.append({"fullUrl": f"{BASE}/{key(resource)}", "resource": resource, **search})
        head = {"resourceType": "Bundle", "type": kind, "total": len(groups)}
        return Answered({**head, "link": links, "entry": entries})

    def _one(self, found: list[Resource]) -> Answered:
        if not found:
            return Answered({"resourceType": "OperationOutcome"}, 404)
        return Answered(found[-1], etag=f'W/"{found[-1]["meta"]["versionId"]}"')

    def _is_of(self, resource: Resource, place: str) -> bool:
        named = [each for code in REFERENCES[resource["resourceType"]] for each in referred(resource, code)]
        return key(resource) == place or place in named or resource["resourceType"] == "Practitioner"

    def _manifest(self) -> Answered:
        output = [{"type": name, "url": f"{BASE}/jobs/1/{name}"} for name in REFERENCES]
        return Answered({"transactionTime": "2026-01-01T00:00:00Z", "output": output, "error": []})
