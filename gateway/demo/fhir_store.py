"""The sample store: synthetic patients in memory, with versions, search and bundles. For the demonstration and tests.

In memory on purpose: it stands where a hospital's own store stands, and is gone when the demonstration ends.
"""

import copy
import gzip
import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from gateway.fhir.definitions import is_resource_type, search_parameter
from gateway.fhir.fhirpath import compile_expression
from gateway.fhir.matching import CriteriaError, compile_criteria

Resource = dict[str, Any]


class StoreError(Exception):
    """An answer other than success: status, FHIR issue code and a sentence."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text

    def outcome(self) -> Resource:
        """The OperationOutcome."""
        issue = {"severity": "error", "code": self.code, "diagnostics": self.text}
        return {"resourceType": "OperationOutcome", "issue": [issue]}


def sample_resources() -> list[Resource]:
    """The synthetic patients that ship with the package."""
    packed = resources.files("gateway.demo.data").joinpath("patients.json.gz").read_bytes()
    found: list[Resource] = json.loads(gzip.decompress(packed))
    return found


@dataclass(slots=True)
class _Instance:
    versions: list[Resource | None] = field(default_factory=list)  # None: deleted
    times: list[str] = field(default_factory=list)

    @property
    def current(self) -> Resource | None:
        return self.versions[-1] if self.versions else None


@dataclass(slots=True)
class SampleStore:
    """Resources by type and id, every version kept."""

    instances: dict[tuple[str, str], _Instance] = field(default_factory=dict)

    @classmethod
    def of(cls, initial: Iterable[Resource]) -> "SampleStore":
        """A store that holds these resources as their first versions."""
        store = cls()
        for resource in initial:
            store.write(copy.deepcopy(resource))
        return store

    def write(self, resource: Resource) -> tuple[Resource, bool]:
        """Store a new version; the resource as stored, and whether it was created."""
        key = (str(resource["resourceType"]), str(resource["id"]))
        instance = self.instances.setdefault(key, _Instance())
        created = instance.current is None
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        meta = resource.get("meta") or {}
        resource["meta"] = {**meta, "versionId": str(len(instance.versions) + 1), "lastUpdated": time}
        instance.versions.append(resource)
        instance.times.append(time)
        return resource, created

    def mark(self) -> dict[tuple[str, str], int]:
        """Where every instance stands, for back_to()."""
        return {key: len(instance.versions) for key, instance in self.instances.items()}

    def back_to(self, mark: dict[tuple[str, str], int]) -> None:
        """Undo every write since the mark."""
        for key in list(self.instances):
            if key not in mark:
                del self.instances[key]
                continue
            del self.instances[key].versions[mark[key] :]
            del self.instances[key].times[mark[key] :]

    def read(self, type_: str, id_: str) -> Resource:
        """The current version. Raises StoreError 404 or 410."""
        instance = self.instances.get((type_, id_))
        if instance is None:
            raise StoreError(404, "not-found", f"{type_}/{id_} is not known")
        if instance.current is None:
            raise StoreError(410, "deleted", f"{type_}/{id_} was deleted")
        return instance.current

    def is_there(self, type_: str, id_: str) -> bool:
        """Whether there is a current version."""
        instance = self.instances.get((type_, id_))
        return instance is not None and instance.current is not None

    def version(self, type_: str, id_: str, version: str) -> Resource:
        """One version. Raises StoreError 404 or 410."""
        instance = self.instances.get((type_, id_))
        number = int(version) if version.isdigit() else 0
        if instance is None or not 1 <= number <= len(instance.versions):
            raise StoreError(404, "not-found", f"{type_}/{id_} has no version {version}")
        found = instance.versions[number - 1]
        if found is None:
            raise StoreError(410, "deleted", f"{type_}/{id_} was deleted in this version")
        return found

    def history(self, type_: str, id_: str) -> list[tuple[str, Resource | None]]:
        """Version ids and versions, newest first. Raises StoreError 404."""
        instance = self.instances.get((type_, id_))
        if instance is None:
            raise StoreError(404, "not-found", f"{type_}/{id_} is not known")
        return [(str(n + 1), v) for n, v in reversed(list(enumerate(instance.versions)))]

    def create(self, type_: str, resource: Resource) -> Resource:
        """Store a new resource under an id of ours."""
        self._check(type_, resource)
        return self.write({**resource, "id": str(uuid.uuid4())})[0]

    def update(self, type_: str, id_: str, resource: Resource, if_match: str | None) -> tuple[Resource, bool]:
        """Store the next version, or the first (upsert). Raises StoreError 400, 412."""
        self._check(type_, resource)
        if resource.get("id") != id_:
            raise StoreError(400, "invariant", "the id of the resource is not that of the URL")
        self._check_match(type_, id_, if_match)
        return self.write(dict(resource))

    def delete(self, type_: str, id_: str, if_match: str | None = None) -> None:
        """Mark as deleted; deleting what is not there is fine."""
        self._check_match(type_, id_, if_match)
        instance = self.instances.get((type_, id_))
        if instance is not None and instance.current is not None:
            instance.versions.append(None)
            instance.times.append(datetime.now(UTC).isoformat(timespec="milliseconds"))

    def patch(self, type_: str, id_: str, operations: object, if_match: str | None) -> Resource:
        """Apply a JSON Patch (RFC 6902). Raises StoreError 400, 412, 422."""
        self._check_match(type_, id_, if_match)
        patched = apply_patch(copy.deepcopy(self.read(type_, id_)), operations)
        return self.update(type_, id_, patched, None)[0]

    def _check(self, type_: str, resource: object) -> None:
        if not is_resource_type(type_):
            raise StoreError(404, "not-supported", f"{type_} is not a resource type")
        if not isinstance(resource, dict) or resource.get("resourceType") != type_:
            raise StoreError(400, "structure", f"the body is not a {type_}")

    def _check_match(self, type_: str, id_: str, if_match: str | None) -> None:
        if if_match is None:
            return
        wanted = if_match.removeprefix("W/").strip('"')
        instance = self.instances.get((type_, id_))
        if instance is None or str(len(instance.versions)) != wanted:
            raise StoreError(412, "conflict", "the resource has another version")

    def search(self, type_: str, criteria: list[tuple[str, str]]) -> list[Resource]:
        """The resources that match every criterion, in the order stored. Raises StoreError 400."""
        if not is_resource_type(type_):
            raise StoreError(404, "not-supported", f"{type_} is not a resource type")
        tests: list[Callable[[Resource], bool]] = []
        for name, value in criteria:
            try:
                tests.append(compile_criteria(type_, _query(name, value)).matches)
            except (CriteriaError, ValueError) as error:
                raise StoreError(400, "not-supported", f"{name}: {error}") from error
        found = [i.current for (t, _), i in self.instances.items() if t == type_ and i.current is not None]
        return [resource for resource in found if all(test(resource) for test in tests)]

    def referred(self, resource: Resource, code: str) -> list[Resource]:
        """The resources that a reference parameter of this resource names (for _include)."""
        parameter = search_parameter(str(resource["resourceType"]), code)
        if parameter is None:
            raise StoreError(400, "not-supported", f"_include: {resource['resourceType']} has no {code}")
        found = []
        for value in compile_expression(parameter.expression).values(resource):
            reference = value.get("reference") if isinstance(value, dict) else None
            key = tuple(str(reference).split("/", 1)) if reference else ()
            instance = self.instances.get(key) if len(key) == 2 else None
            if instance is not None and instance.current is not None:
                found.append(instance.current)
        return found

    def referring(self, target: Resource, type_: str, code: str) -> list[Resource]:
        """The resources of a type that name this one (for _revinclude)."""
        return self.search(type_, [(code, f"{target['resourceType']}/{target['id']}")])


def _query(name: str, value: str) -> str:
    from_ = (("%", "%25"), ("&", "%26"), ("+", "%2B"), ("#", "%23"), (";", "%3B"), (" ", "%20"))
    for plain, encoded in from_:
        name, value = name.replace(plain, encoded), value.replace(plain, encoded)
    return f"{name}={value}"


def apply_patch(document: Any, operations: object) -> Any:
    """The document after a JSON Patch: add, remove, replace, test (RFC 6902). Raises StoreError 400, 422."""
    if not isinstance(operations, list):
        raise StoreError(400, "structure", "a JSON Patch is a list")
    for operation in operations:
        op, path = operation.get("op"), operation.get("path", "")
        parts = [p.replace("~1", "/").replace("~0", "~") for p in path.split("/")[1:]]
        if not parts or op not in ("add", "remove", "replace", "test"):
            raise StoreError(
                400, "not-supported", f"the operation {op} at {path} is not supported by the sample"
            )
        place: Any = document
        try:
            for part in parts[:-1]:
                place = place[int(part)] if isinstance(place, list) else place[part]
            last: Any = parts[-1]
            if isinstance(place, list):
                last = len(place) if last == "-" else int(last)
            if op == "add" and isinstance(place, list):
                place.insert(last, operation["value"])
            elif op == "add":
                place[last] = operation["value"]
            elif op == "test":
                if place[last] != operation["value"]:
                    raise StoreError(422, "processing", f"the test at {path} failed")
            elif op == "replace":
                _ = place[last]  # what is not there cannot be replaced
                place[last] = operation["value"]
            else:
                del place[last]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise StoreError(422, "processing", f"there is nothing at {path}") from error
    return document
