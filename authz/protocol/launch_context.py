"""The context of a launch from a record system: what it may hold, and what of it an app is told (SMART App Launch 2.2).

The record system tells it to us and not to the browser; the app gets it with its tokens. It rests with the pushed
request as a parameter of our own, which no app can send.
"""

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.scopes import LAUNCH_SCOPES

PARAMETER = "launch_context"
"""Under this name the context rests with the request. Parameters of this name are never taken from an app."""
MEMBERS: Mapping[str, type] = {
    "patient": str,
    "encounter": str,
    "fhirContext": list,
    "need_patient_banner": bool,
    "intent": str,
    "smart_style_url": str,
    "tenant": str,
}
"""The members of a launch context that an app may be told, each with its JSON type."""
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[\x21-\x7e]+")
_ITEM = frozenset({"reference", "canonical", "identifier", "type", "role"})
_MAX_CHARACTERS = 256
_MAX_ITEMS = 16
_MAX_CONTEXT = 2048  # it goes into every access token, which goes into a header


def read_context(document: Mapping[str, object]) -> Mapping[str, object]:
    """The context in a document whose members have the types of MEMBERS. Raises OAuthError(INVALID_REQUEST)."""
    found = {name: document[name] for name in MEMBERS if name in document}
    for name in ("patient", "encounter"):
        if name in found and not _ID.fullmatch(str(found[name])):
            raise _refused(f"{name} must be the id of a resource, not a reference")
    for name in ("intent", "tenant"):
        value = str(found.get(name, "x"))
        if not 0 < len(value) <= _MAX_CHARACTERS or not value.isprintable():
            raise _refused(f"{name} must be one line of 1 to {_MAX_CHARACTERS} characters")
    if "smart_style_url" in found and not _is_https(str(found["smart_style_url"])):
        raise _refused("smart_style_url must be an https URL")
    if "fhirContext" in found:
        items = found["fhirContext"]
        if not isinstance(items, list) or len(items) > _MAX_ITEMS:
            raise _refused(f"fhirContext must be a list of at most {_MAX_ITEMS} objects")
        for item in items:
            _check_item(item)
    if len(json.dumps(found)) > _MAX_CONTEXT:
        raise _refused(f"the launch context is longer than {_MAX_CONTEXT} bytes: tokens carry it")
    return found


def _check_item(item: object) -> None:
    """SMART App Launch 2.2, fhirContext: at least one of three members; roles that are absolute or of the standard."""
    if not isinstance(item, dict) or not item.keys() <= _ITEM:
        raise _refused(f"each item of fhirContext is an object of {', '.join(sorted(_ITEM))}")
    if item.keys().isdisjoint({"reference", "canonical", "identifier"}):
        raise _refused("each item of fhirContext needs reference, canonical or identifier")
    reference, role = item.get("reference"), item.get("role", "launch")
    if reference is not None and not (isinstance(reference, str) and _REFERENCE.fullmatch(reference)):
        raise _refused("reference in fhirContext must be relative, such as ImagingStudy/1")
    if "canonical" in item and not (isinstance(item["canonical"], str) and _URI.fullmatch(item["canonical"])):
        raise _refused("canonical in fhirContext must be a URL")
    if "identifier" in item and not isinstance(item["identifier"], dict):
        raise _refused("identifier in fhirContext must be an object")
    kind = item.get("type", "Any")
    if not (isinstance(kind, str) and _TYPE.fullmatch(kind)):
        raise _refused("type in fhirContext must be a resource type")
    if not isinstance(role, str) or not (role == "launch" or _URI.fullmatch(role)):
        raise _refused("role in fhirContext must be launch or an absolute URI: leave it out")
    whose = str(reference).partition("/")[0] if reference is not None else kind
    if whose in ("Patient", "Encounter") and role == "launch":
        raise _refused(f"{whose} stands beside fhirContext, or in it with a role of its own")


def context_of(parameters: Mapping[str, str]) -> Mapping[str, object] | None:
    """The context that rests with a request, with `user` in it; None for one that no record system launched."""
    text = parameters.get(PARAMETER)
    if text is None:
        return None
    value = json.loads(text)
    return value if isinstance(value, dict) else None


def left_out(parameters: Mapping[str, str], ungranted: frozenset[str]) -> frozenset[str]:
    """The scopes that this request is not granted: those of a launch only where there was one with such a context."""
    context = context_of(parameters)
    if context is None:
        return ungranted
    return ungranted - (LAUNCH_SCOPES if "encounter" in context else frozenset({"launch"}))


def told(context: Mapping[str, object], scope: tuple[str, ...]) -> dict[str, object]:
    """What of the context an app is told that was granted this scope: all by launch, else only what it names."""
    if "launch" in scope:
        return {name: value for name, value in context.items() if name in MEMBERS}
    named = {"encounter"} if "launch/encounter" in scope else set()
    if "launch/patient" in scope or any(text.startswith("patient/") for text in scope):
        named.add("patient")
    return {name: value for name, value in context.items() if name in named}


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return (
        parts.scheme == "https" and bool(parts.hostname) and len(url) <= 2 * _MAX_CHARACTERS and url.isascii()
    )


def _refused(description: str) -> OAuthError:
    return OAuthError(ErrorCode.INVALID_REQUEST, description)
