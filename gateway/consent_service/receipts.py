"""Receipts: what a person keeps of a consent, signed by the server, in the fields of ISO/IEC TS 27560 and in words.

The signature is a JWS by a key of the published JWKS, so that a receipt can be held against the server years later.
It names the version by number and by the digest of its bytes.
"""

from collections.abc import Mapping
from hashlib import sha256
from html import escape
from typing import Any

from authz.protocol.encoding import base64url
from gateway.consent_service.plain import as_plain
from gateway.consent_service.rules import codings
from gateway.consent_service.versions import reason_of

TYPE = "consent-receipt+jwt"
_SCHEMA = "ISO/IEC TS 27560:2023"
_SAID = frozenset(
    {"id", "type", "period", "actor", "purpose", "class", "securityLabel", "dataPeriod", "provision"}
)  # of a provision, what the lines say
_STATES = {
    "draft": "draft",
    "proposed": "requested",
    "active": "given",
    "rejected": "refused",
    "inactive": "withdrawn",
    "entered-in-error": "invalid",
}


def receipt_claims(
    value: Mapping[str, Any], raw: bytes, *, issuer: str, base: str, organisation: str, now: int
) -> dict[str, object]:
    """The claims of a receipt of this Consent, whose bytes are raw."""
    plain = as_plain(value)
    period = plain.get("period", {})
    controllers = plain.get("organizations") or [organisation or base]
    return {
        "iss": issuer,
        "iat": now,
        "sub": f"{base}/Patient/{plain['patient']}",
        "consent_record": {
            "schema_version": _SCHEMA,
            "record_id": f"{base}/Consent/{plain['id']}/_history/{plain.get('version')}",
            "pii_principal_id": f"{base}/Patient/{plain['patient']}",
        },
        "pii_processing": {
            "privacy_notice": plain.get("policy", []),
            "language": str(value.get("language", "en")),
            "purposes": [
                {
                    "purpose": purpose,
                    "lawful_basis": "consent",
                    "decision": plain.get("decision", ""),
                    "pii_information": [{"pii_type": type_} for type_ in plain.get("types", ["all"])],
                    "recipient_third_parties": plain.get("actors", []),
                    "pii_controllers": controllers,
                    "retention_period": dict(period),
                }
                for purpose in plain.get("purposes", [plain.get("scope", "")])
            ],
            "exceptions": plain.get("exceptions", []),
            "withdrawal_method": f"{issuer}/consents/{plain['id']}/revoke",
        },
        "party_identification": [
            {"party_id": party, "party_role": "pii_controller"} for party in controllers
        ],
        "event": {
            "event_time": plain.get("updated_at", ""),
            "validity_duration": dict(period),
            "entity_id": (plain.get("performers") or [f"{base}/Patient/{plain['patient']}"])[0],
            "event_type": "explicit",
            "event_state": _STATES.get(str(plain.get("status")), str(plain.get("status"))),
            **({"event_reason": reason_of(value)} if reason_of(value) else {}),
        },
        "digest": {"algorithm": "sha-256", "of": "Consent", "value": base64url(sha256(raw).digest())},
    }


def in_words(value: Mapping[str, Any]) -> list[str]:
    """What the consent says, a line each, for people."""
    plain = as_plain(value)
    state = _STATES.get(str(plain.get("status")), str(plain.get("status")))
    lines = [
        f"Consent {plain['id']}, version {plain.get('version')}, of {plain.get('updated_at')}: {state}.",
        f"It is about the record of patient {plain['patient']}.",
        *_of(plain, ""),
    ]
    lines += _exceptions(plain, "")
    if _says_more(value):
        lines.append("It says more than these lines can: what holds is the document.")
    if plain.get("policy"):
        lines.append(f"Under: {', '.join(map(str, plain['policy']))}.")
    if plain.get("reason"):
        lines.append(f"Reason: {plain['reason']}")
    return lines


def _exceptions(plain: Mapping[str, Any], above: str) -> list[str]:
    """Every exception, those of exceptions behind what they are exceptions to."""
    lines: list[str] = []
    for number, each in enumerate(plain.get("exceptions", []), start=1):
        place = f"{above}{number}"
        lines += [*_of(each, f"Except ({place}): "), *_exceptions(each, f"{place}.")]
    return lines


def _says_more(value: Mapping[str, Any]) -> bool:
    """Whether words that leave something out would be wrong words."""
    if "modifierExtension" in value or "policyRule" in value:
        return True
    provision = value.get("provision")
    return isinstance(provision, Mapping) and _has_more(provision)


def _has_more(provision: Mapping[str, Any]) -> bool:
    if not set(provision) <= _SAID or any(_is_no_recipient(each) for each in provision.get("actor", [])):
        return True
    return any(_has_more(each) for each in provision.get("provision", []))


def _is_no_recipient(actor: Mapping[str, Any]) -> bool:
    codes = {code for _, code in codings(actor.get("role"))}
    return codes.isdisjoint({"IRCP", "PRCP"}) or "extension" in actor


def page(lines: list[str], signed: str, *, jwks: str) -> bytes:
    """The receipt as a page of HTML without scripts, to be printed or kept."""
    said = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Consent receipt</title></head>'
        f"<body><main><h1>Consent receipt</h1>{said}<h2>Signed receipt</h2>"
        f"<p>A JWS, to be checked with the keys at {escape(jwks)}.</p>"
        f"<pre>{escape(signed)}</pre></main></body></html>"
    ).encode()


def _of(plain: Mapping[str, Any], before: str) -> list[str]:
    decision = {"permit": "It permits", "deny": "It forbids"}.get(str(plain.get("decision")), "It concerns")
    actors = ", ".join(plain.get("actors", [])) or "everybody of this organisation"
    types = ", ".join(plain.get("types", [])) or "all of the record"
    line = f"{before}{decision} {actors}: {types}"
    if plain.get("purposes"):
        line += f", for {', '.join(plain['purposes'])}"
    if plain.get("labels"):
        line += f", marked {', '.join(plain['labels'])}"
    lines = [line + "."]
    for name, words in (("period", "It holds"), ("data_period", "It is about what was written")):
        period = plain.get(name)
        if period:
            lines.append(
                f"{before}{words} from {period.get('start', 'ever')} to {period.get('end', 'further notice')}."
            )
    return lines
