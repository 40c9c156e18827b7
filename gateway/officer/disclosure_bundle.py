"""An accounting of disclosures as FHIR: a Bundle with an AuditEvent for each of them.

A Bundle of type collection, and not a Composition or Parameters: a disclosure is an event, and its AuditEvent (IHE BALP,
privacy disclosure at its source) is what other systems exchange about it. A Composition would only tell the same again
in words, and Parameters are understood by whoever defined them.

The event is made of the record of the log, as every AuditEvent is. Where the record is retired, or says too little for
the profile, the event is made of what the index has, and names no profile.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from authz.storage.store import Store
from gateway.audit.events import codes
from gateway.audit.events.codes import Json, concept, dcm, term
from gateway.audit.events.disclosures import disclosure
from gateway.audit.events.record import Recorder, read_record
from gateway.audit.index.follower import line_at
from gateway.officer.disclosures import Accounting, Disclosure


async def as_fhir(store: Store, found: Accounting, recorder: Recorder) -> Json:
    """The accounting as a Bundle of AuditEvents. Raises StoreUnavailable."""
    events = []
    for each in found.disclosures:
        event = await _recorded(store, found, each, recorder) or _indexed(found, each, recorder)
        events.append(_completed(event, each))
        await asyncio.sleep(0)  # requests come first
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": _instant(found.until),
        "entry": [{"fullUrl": f"urn:uuid:{event['id']}", "resource": event} for event in events],
    }


async def _recorded(store: Store, found: Accounting, each: Disclosure, recorder: Recorder) -> Json | None:
    """The event that the record of the log tells about this patient; None where it tells none."""
    line = await line_at(store, each.chain, each.sequence)
    if line is None:
        return None
    outside = replace(recorder, disclosed_to=frozenset({each.client}))
    try:
        events = disclosure(read_record(line.line, outside, chain=each.chain))
    except ValueError:
        return None
    whose = f"{found.base}/Patient/{found.patient}"
    return next((event for event in events if _is_about(event, whose)), None)


def _is_about(event: Json, whose: str) -> bool:
    entities: list[dict[str, Any]] = event["entity"]
    return any(entity.get("what", {}).get("reference") == whose for entity in entities)


def _indexed(found: Accounting, each: Disclosure, recorder: Recorder) -> Json:
    """The event as far as the index knows it."""
    ours = {"identifier": {"value": recorder.issuer}}
    id = _as_id(f"{each.chain}.{each.sequence}.{found.patient}")
    return {
        "resourceType": "AuditEvent",
        "id": id,
        "type": dcm("110106"),
        "subtype": [term("iso-21089-lifecycle", "disclose", "Disclose Record Lifecycle Event")],
        "action": "R",
        "recorded": _instant(each.at),
        "outcome": codes.SUCCESS,
        "agent": [
            {"type": concept(dcm("110153")), "who": ours, "requestor": False},
            {
                "type": concept(dcm("110152")),
                "who": {"identifier": {"system": codes.CLIENT_ID, "value": each.client}},
                "requestor": True,
            },
        ],
        "source": {"observer": ours},
        "entity": [
            {
                "what": {"reference": f"{found.base}/Patient/{found.patient}", "type": "Patient"},
                "type": term("audit-entity-type", "1", "Person"),
                "role": term("object-role", "1", "Patient"),
            }
        ],
    }


def _as_id(text: str) -> str:
    """The text as an id of FHIR."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "-.") else "-" for each in text)[
        -64:
    ]


def _completed(event: Json, each: Disclosure) -> Json:
    """The event with what the configuration knows beside the record: recipient, address, and purpose of its client."""
    details = [
        {"type": "recipient", "valueString": each.recipient},
        {"type": "recipient-address", "valueString": each.address},
        {"type": "disclosed", "valueString": each.what},
        {"type": "record", "valueString": f"{each.chain or '-'} {each.sequence}"},
    ]
    told = {
        "type": term("audit-entity-type", "4", "Other"),
        "detail": [detail for detail in details if detail["valueString"]],
    }
    completed = {**event, "entity": [*event["entity"], told]}
    if each.purposes and "purposeOfEvent" not in event:
        completed["purposeOfEvent"] = codes.purposes(each.purposes)
    return completed


def _instant(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
