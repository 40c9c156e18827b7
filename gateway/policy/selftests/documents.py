"""What a test in a policy file gives of a Binary: `document`, what it holds, and `via`, what leads to it.

A document is a file beside the policy or stands in the test. A resource of `via` that the test does not give is a
current one about the one patient of its consents; a patient whom the test does not give is the one whom the document
names. So a test says only what it is about.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.cda.header import Header
from gateway.cda.header_reader import header_of
from gateway.cda.parser import DocumentError
from gateway.cda.patients import is_about
from gateway.fhir.compartment import patients_of
from gateway.fhir.definitions import is_resource_type
from gateway.fhir.ids import is_id
from gateway.fhir.interaction import FhirRequest, Interaction
from gateway.policy.attachments import Content, SeenBinary
from gateway.policy.decision import Judge, Resource
from gateway.policy.rules import PolicySet, PolicyTest
from gateway.yaml_source import did_you_mean

DOCUMENT_KEYS = ("document", "via")
Reading = Callable[[str], Judge | None]
"""The judge of reads of a type by the caller of the test; None where none is permitted."""


class UnplayableDocument(Exception):
    """What a test gives of a document is not written right."""


def speaks_of_documents(test: PolicyTest) -> bool:
    """Whether the test gives a document, or what leads to one."""
    given = test.body.get("given")
    return isinstance(given, Mapping) and any(key in given for key in DOCUMENT_KEYS)


def with_binary(test: PolicyTest, policies: PolicySet, asked: FhirRequest, reading: Reading) -> PolicyTest:
    """The test with the Binary that it is about as judges see one: that of its body, or the one that is stored.

    Raises UnplayableDocument.
    """
    given, body = test.body.get("given"), test.body.get("body")
    rest = {k: v for k, v in given.items() if k not in DOCUMENT_KEYS} if isinstance(given, Mapping) else {}
    name = f"Binary/{asked.id}"
    if asked.interaction is Interaction.CREATE:
        members = body if isinstance(body, Mapping) else {"resourceType": "Binary"}
        made = _given(test, policies, members, reading)
        return replace(test, body={**test.body, "body": made, "given": {}})  # the rest led to it
    found = rest.get(name)
    members = found if isinstance(found, Mapping) else {"resourceType": "Binary", "id": asked.id}
    rest[name] = _given(test, policies, members, reading)
    return replace(test, body={**test.body, "given": rest})


def _given(
    test: PolicyTest, policies: PolicySet, members: Mapping[str, object], reading: Reading
) -> SeenBinary:
    """The Binary as the test gives it. Raises UnplayableDocument."""
    given = test.body.get("given")
    said: Mapping[str, object] = given if isinstance(given, Mapping) else {}
    via = [_resource(name, said) for name in _names(said.get("via", []))]
    read = [each for each in via if (judge := reading(str(each["resourceType"]))) and judge(each).shown]
    if "document" not in said:
        return SeenBinary(members, read)
    try:
        header = header_of(_text(said["document"], policies).encode())
    except DocumentError:
        return SeenBinary(members, read)
    return SeenBinary(members, read, Content(header, _patients(header, read, said)))


def _names(said: object) -> list[str]:
    names = said if isinstance(said, list) else [said]
    for name in names:
        type_, _, id_ = str(name).partition("/")
        if not is_resource_type(type_) or not is_id(id_):
            raise UnplayableDocument(
                f"via is '{name}', expected what leads to it, such as DocumentReference/d1"
            )
    return [str(name) for name in names]


def _resource(name: str, given: Mapping[str, object]) -> Resource:
    found = given.get(name)
    if isinstance(found, Mapping):
        return dict(found)
    type_, _, id_ = name.partition("/")
    resource: dict[str, object] = {"resourceType": type_, "id": id_, "status": "current"}
    consents = given.get("consent")
    patients = list(consents) if isinstance(consents, Mapping) else []
    return resource | ({"subject": {"reference": str(patients[0])}} if len(patients) == 1 else {})


def _text(said: object, policies: PolicySet) -> str:
    if not isinstance(said, str):
        raise UnplayableDocument("'document' must be the name of a file beside the policies, or XML")
    if said.lstrip().startswith("<"):
        return said
    found = policies.documents.get(said)
    if found is None:
        raise UnplayableDocument(f"there is no document '{said}'.{did_you_mean(said, policies.documents)}")
    return found


def _patients(header: Header | None, via: list[Resource], given: Mapping[str, object]) -> frozenset[str]:
    if header is None:
        return frozenset()
    found = set()
    for patient in {one for each in via for one in patients_of(each, frozenset()) or ()}:
        resource = given.get(f"Patient/{patient}")
        if not isinstance(resource, Mapping) or is_about(header, _identifiers(resource), {}):
            found.add(patient)
    return frozenset(found)


def _identifiers(patient: Mapping[str, object]) -> frozenset[tuple[str, str]]:
    said = patient.get("identifier")
    return frozenset(
        (str(each.get("system")), str(each.get("value")))
        for each in (said if isinstance(said, list) else [])
        if isinstance(each, Mapping)
    )
