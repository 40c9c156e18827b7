"""An AuditEvent as one patient may read it: about nobody else, and without what others were asked for by.

Events are for auditors, who may know every patient. Where one is shown to a patient, the request as it was received
may name others, and so may the text of a refusal.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error
from urllib.parse import parse_qsl

from gateway.audit.events.codes import Json

_PATIENT_TYPE = "1"


def told_to_patient(event: Json, patient: str) -> Json | None:
    """The event for this patient, by FHIR id; None where it is about another, about nobody, or about several.

    Of a query the names of its parameters stay, so that the profile of the event still holds.
    """
    about = [
        str(entity.get("what", {}).get("reference", "")).rpartition("Patient/")[2]
        for entity in event.get("entity", [])
        if entity.get("type", {}).get("code") == _PATIENT_TYPE
    ]
    if about != [patient]:
        return None
    entities = [_without_values(entity) for entity in event["entity"]]
    return {**{name: member for name, member in event.items() if name != "outcomeDesc"}, "entity": entities}


def _without_values(entity: Json) -> Json:
    if "query" not in entity:
        return entity
    try:
        asked = b64decode(str(entity["query"]), validate=True).decode("utf-8", "replace")
    except Error:
        asked = ""
    head, _, form = asked.partition("\r\n\r\n")
    place, _, query = head.partition("?")
    # A compartment has the id of its patient in the path: /Patient/A/Observation.
    place = re.sub(r"/Patient/[^/?\s]+", "/Patient", place)
    names = [name for text in (query, form) for name, _ in parse_qsl(text, keep_blank_values=True)]
    said = f"{place}?{'&'.join(dict.fromkeys(names))}" if names else place
    return {**entity, "query": b64encode(said.encode()).decode()}
