"""Documents that come with what describes them (IHE MHD, ITI-65): whose each of them is.

A Binary of such a Bundle says nothing of itself. What opens it later is the DocumentReference beside it; until then the
patient of that one is its security context (FHIR R4 2.41.3), and it is judged and stored with that.
"""

from collections.abc import Sequence

from gateway.fhir.bundle import Entry
from gateway.proxy.documents.attachments import attachment_urls


def give_contexts(entries: Sequence[Entry]) -> None:
    """Give each new Binary without security context the patient of the DocumentReferences that attach it, in place.

    One that is attached for two patients, or for nobody, gets none: nothing opens it.
    """
    subjects: dict[str, list[str]] = {}
    for entry in entries:
        value = entry.resource
        if value is not None and value.get("resourceType") == "DocumentReference":
            subject = value.get("subject")
            reference = subject.get("reference") if isinstance(subject, dict) else None
            for url in attachment_urls(value):
                subjects.setdefault(url, []).append(reference if isinstance(reference, str) else "")
    for entry in entries:
        value = entry.resource
        if value is None or value.get("resourceType") != "Binary" or "securityContext" in value:
            continue
        found = set(subjects.get(entry.name or "", ()))
        if entry.method == "POST" and len(found) == 1 and (reference := found.pop()):
            value["securityContext"] = {"reference": reference}
