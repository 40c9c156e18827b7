"""The entities of an AuditEvent: patient, resource, query, transaction, and what the decision went by (IHE BALP)."""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from gateway.audit.events import codes
from gateway.audit.events.codes import Json, coding, term
from gateway.audit.events.record import Record, object_of, text_of, texts_of, without_empty

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_PATIENT = re.compile(r"(?:Patient/)?([A-Za-z0-9.-]{1,64})")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_SEARCHED = frozenset({"patient", "subject", "beneficiary", "individual"})
_OF_A_PROVISION = ("consent", "provision", "decision", "why")
_JOB = frozenset({"export", "export-status", "export-cancel", "export-file"})


def reference(record: Record, type: str, id: str, version: str = "") -> Json:
    """A resource of the base that the record is about, by its public URL."""
    place = f"{type}/{id}" + (f"/_history/{version}" if version else "")
    return {"reference": f"{record.base}/{place}" if record.base else place, "type": type}


def patient(record: Record, id: str) -> Json:
    """A patient of whom something was asked, shown or changed."""
    return {
        "what": reference(record, "Patient", id),
        "type": term("audit-entity-type", "1", "Person"),
        "role": term("object-role", "1", "Patient"),
    }


def data(record: Record) -> Json:
    """The resource or place that was asked for, with the labels that it carried."""
    request = record.part("request")
    type, id = text_of(request, "type"), text_of(request, "id") or record.text("resource_id")
    operation = record.text("operation")
    version = text_of(request, "version") or record.text("version_id")
    if type and id and _ID.fullmatch(id):
        what = reference(record, type, id, version)
    else:
        place = "/".join(each for each in (record.base, type, f"${operation}" if operation else "") if each)
        what = {"identifier": {"system": codes.URI, "value": place or record.recorder.issuer}}
        if type:
            what["type"] = type
    role = ("20", "Job") if operation in _JOB else ("4", "Domain Resource")
    return without_empty(
        {
            "what": what,
            "type": term("audit-entity-type", "2", "System Object"),
            "role": term("object-role", *role),
            "securityLabel": labels(record),
        }
    )


def labels(record: Record) -> list[Json]:
    """The security labels of what was shown, as far as the record says."""
    found = []
    for each in record.texts("labels"):
        system, _, code = each.rpartition("|")
        found.append(without_empty({"system": system, "code": code}))
    return [each for each in found if each.get("code")]


def query(record: Record) -> Json:
    """The search as it was received: of a form, its body behind the place (BALP Query)."""
    return {
        "type": term("audit-entity-type", "2", "System Object"),
        "role": term("object-role", "24", "Query"),
        "query": b64encode(received(record).encode()).decode(),
    }


def received(record: Record) -> str:
    """The request as it came; as it was read, where it came without parameters or by a sealed link."""
    said = record.text("received")
    if said:
        return said
    method, _, target = text_of(record.part("request"), "canonical").partition(" ")
    return f"{method} {record.base}{target}".strip() or f"{record.text('method')} {record.base}".strip()


def transaction(record: Record) -> list[Json]:
    """The interaction id, which every log of the exchange names."""
    id = record.text("interaction_id")
    if not id:
        return []
    what = {"identifier": {"value": id}}
    return [{"what": what, "type": coding(codes.BALP_ENTITY, "XrequestId")}]


def details(record: Record) -> list[Json]:
    """What links the event to decision, grant, consent and trace: pairs of a name and a text."""
    caller, entries = record.part("caller"), record.part("entries")
    trace = _TRACE.fullmatch(record.text("trace"))
    pairs: list[tuple[str, str]] = [
        ("record", f"{record.chain}#{record.sequence}"),
        ("decision", record.text("decision")),
        ("policies", record.text("policies")),
        *(("rule", rule) for rule in record.texts("rules")),
        *(("consent", each) for each in record.texts("consents")),
        *(
            ("provision", " ".join(text_of(each, name) for name in _OF_A_PROVISION))
            for each in _provisions(record)
        ),
        ("reason", record.text("reason")),
        ("grant", text_of(caller, "grant") or record.text("grant_id")),
        ("token", text_of(caller, "token") or record.text("token_id")),
        ("binding", text_of(caller, "binding") or record.text("binding")),
        ("trace", trace[1] if trace is not None else ""),
        ("interaction", record.text("interaction_id")),
        ("emergency", text_of(record.part("emergency"), "id")),
    ]
    for name, of in (("shown", entries), ("dropped", entries), ("entry", record.members)):
        count = of.get(name)
        if isinstance(count, int):
            pairs.append((name, str(count)))
    for name in ("shown", "dropped", "bytes", "unlisted"):
        count = record.number(name)
        if count is not None:
            pairs.append((name, str(count)))
    return [detail(name, said) for name, said in pairs if said]


def detail(name: str, said: str) -> Json:
    """One pair of entity.detail."""
    return {"type": name, "valueString": said}


def decision(record: Record, more: Iterable[Json] = ()) -> Json:
    """The entity that carries the details: the profiles of BALP let none stand at the query."""
    return {
        "type": coding(codes.OUR_ENTITY, "decision"),
        "name": record.event,
        "detail": [*details(record), *more],
    }


def patients(record: Record) -> list[str]:
    """The ids of the patients of a request: those whom the answer showed, else the ones that were asked for.

    Those of the token only where the request names nobody: a security context of one patient is about him (BALP).
    """
    shown = [each for each in record.texts("patients") if _ID.fullmatch(each)]
    if shown or "patients" in record.members:
        return list(dict.fromkeys(shown))
    request = record.part("request")
    type, id = text_of(request, "type"), text_of(request, "id")
    found = [id] if type == "Patient" and id else []
    target = text_of(request, "canonical").partition(" ")[2]
    path, _, terms = target.partition("?")
    segments = path.strip("/").split("/")
    if len(segments) > 2 and segments[0] == "Patient":
        found.append(segments[1])
    for name, value in parse_qsl(terms):
        code = name.partition(":")[0]
        if code in _SEARCHED or (code == "_id" and type == "Patient"):
            bare = code in ("patient", "_id")  # of another parameter an id alone may be a group's
            named = (_PATIENT.fullmatch(part) for part in value.split(",") if bare or "/" in part)
            found += [each[1] for each in named if each is not None]
    context = text_of(record.part("caller"), "patient")
    if not found and context and record.text("interaction") not in ("capabilities", "batch", "transaction"):
        found = [context]
    return [each for each in dict.fromkeys(found) if _ID.fullmatch(each)]


def consent_ids(record: Record) -> list[str]:
    """The consents that decided, each as an id, or as 'id/_history/version' where the version is recorded."""
    versions = {text_of(each, "consent"): text_of(each, "version") for each in _provisions(record)}
    found = texts_of(record.members, "consents")
    return [f"{each}/_history/{versions[each]}" if versions.get(each) else each for each in found]


def _provisions(record: Record) -> list[Mapping[str, Any]]:
    listed = record.members.get("provisions")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def outcome_text(record: Record) -> str:
    """Why it was refused or failed: the reason code, the rules, and the explanation of the policies."""
    rules = " ".join(record.texts("rules"))
    said = [
        record.text("reason"),
        f"rule {rules}" if rules else "",
        record.text("explanation"),
    ]
    return "; ".join(each for each in said if each)


def emergency_patient(record: Record) -> str:
    """The patient of an emergency access."""
    found = text_of(object_of(record.members, "emergency"), "patient")
    return found if _ID.fullmatch(found) else ""
