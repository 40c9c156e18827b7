"""Operations of the sample server: Patient/[id]/$everything and a small bulk export. A sample, not a product."""

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from gateway.demo.fhir_store import Resource, SampleStore, StoreError
from gateway.fhir.compartment import in_compartment
from gateway.fhir.definitions import patient_compartment

Raw = tuple[int, bytes, dict[str, str]]  # status, body, headers


@dataclass(slots=True)
class _Job:
    started: str
    request: str
    files: dict[str, list[Resource]]
    polls: int = 0


class SampleOperations:
    """What the sample server knows beyond reading, searching and writing."""

    def __init__(self, store: SampleStore, base: str) -> None:
        self._store = store
        self._base = base
        self._jobs: dict[str, _Job] = {}

    def answer(self, method: str, parts: list[str], pairs: list[tuple[str, str]]) -> Raw | None:
        """The answer to an operation, a job or a file; None for everything else. Raises StoreError."""
        match method, parts:
            case "GET", ["Patient", id_, "$everything"]:
                return _json(200, self._everything(id_, pairs))
            case "GET", ["$export"] | ["Patient", "$export"] | ["Group", _, "$export"]:
                return self._begin(parts, pairs)
            case "GET", ["_jobs", id_]:
                return self._status(id_)
            case "DELETE", ["_jobs", id_]:
                self._job(id_)
                del self._jobs[id_]
                return 202, b"", {}
            case "GET", ["_jobs", id_, type_]:
                lines = self._job(id_).files.get(type_, [])
                body = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
                return 200, body, {"Content-Type": "application/fhir+ndjson"}
            case _:
                return None

    def _everything(self, id_: str, pairs: list[tuple[str, str]]) -> Resource:
        self._store.read("Patient", id_)
        found = self._records(frozenset({id_}), pairs)
        entries = [
            {
                "fullUrl": f"{self._base}/{resource['resourceType']}/{resource['id']}",
                "resource": resource,
                "search": {"mode": "match" if resource["resourceType"] == "Patient" else "include"},
            }
            for resource in found
        ]
        return {"resourceType": "Bundle", "type": "searchset", "total": len(entries), "entry": entries}

    def _records(self, patients: frozenset[str] | None, pairs: list[tuple[str, str]]) -> list[Resource]:
        """The records of these patients, of all without them; _type and _since narrow."""
        options = dict(pairs)
        wanted = options["_type"].split(",") if "_type" in options else None
        since = options.get("_since", "")
        found = []
        for (type_, id_), instance in self._store.instances.items():
            resource = instance.current
            if resource is None or (wanted is not None and type_ not in wanted):
                continue
            if resource["meta"]["lastUpdated"] < since:
                continue
            if patients is None or self._belongs(type_, id_, resource, patients):
                found.append(resource)
        return found

    def _belongs(self, type_: str, id_: str, resource: Resource, patients: frozenset[str]) -> bool:
        if type_ == "Patient":
            return id_ in patients
        bases = frozenset({self._base})
        return bool(patient_compartment(type_)) and in_compartment(
            resource, patients, membership="spec", bases=bases
        )

    def _begin(self, parts: list[str], pairs: list[tuple[str, str]]) -> Raw:
        patients: frozenset[str] | None = None
        if parts[0] == "Group":
            members = self._store.read("Group", parts[1]).get("member", [])
            references = [str(member.get("entity", {}).get("reference", "")) for member in members]
            patients = frozenset(r.removeprefix("Patient/") for r in references if r.startswith("Patient/"))
        elif parts[0] == "Patient":
            patients = frozenset(id_ for type_, id_ in self._store.instances if type_ == "Patient")
        files: dict[str, list[Resource]] = {}
        for resource in self._records(patients, pairs):
            files.setdefault(str(resource["resourceType"]), []).append(resource)
        for type_, filters in _filters(pairs).items():
            kept = {r["id"] for criteria in filters for r in self._store.search(type_, criteria)}
            files[type_] = [r for r in files.get(type_, []) if r["id"] in kept]
        id_ = str(uuid.uuid4())
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._jobs[id_] = _Job(now, f"{self._base}/{'/'.join(parts)}", files)
        return 202, b"", {"Content-Location": f"{self._base}/_jobs/{id_}"}

    def _status(self, id_: str) -> Raw:
        job = self._job(id_)
        job.polls += 1
        if job.polls == 1:  # a client must see that it may have to wait
            return 202, b"", {"X-Progress": "50%", "Retry-After": "1"}
        output = [
            {"type": type_, "url": f"{self._base}/_jobs/{id_}/{type_}", "count": len(lines)}
            for type_, lines in sorted(job.files.items())
            if lines
        ]
        manifest = {
            "transactionTime": job.started,
            "request": job.request,
            "requiresAccessToken": False,
            "output": output,
            "error": [],
        }
        return 200, json.dumps(manifest).encode(), {"Content-Type": "application/json"}

    def _job(self, id_: str) -> _Job:
        job = self._jobs.get(id_)
        if job is None:
            raise StoreError(404, "not-found", "there is no such job")
        return job


def _filters(pairs: list[tuple[str, str]]) -> dict[str, list[list[tuple[str, str]]]]:
    found: dict[str, list[list[tuple[str, str]]]] = {}
    for name, value in pairs:
        if name == "_typeFilter":
            type_, _, query = value.partition("?")
            found.setdefault(type_, []).append(parse_qsl(query))
    return found


def _json(status: int, value: dict[str, Any]) -> Raw:
    body = json.dumps(value, ensure_ascii=False).encode()
    return status, body, {"Content-Type": "application/fhir+json; charset=utf-8"}
