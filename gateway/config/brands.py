"""The section brands of gateway.yaml: what apps show of the hospital (SMART App Launch 2.2, user-access brands)."""

import re
from collections.abc import Mapping, Sequence

from authz.endpoints.published import BRANDS_PATH
from authz.protocol.brands import (
    ABSENT,
    CATEGORIES,
    URI_SYSTEM,
    Brand,
    FhirBase,
    Identifier,
    Portal,
    PublishedBrands,
    bundle_of,
)
from gateway.config.schema import Section
from gateway.settings import Upstream

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_INSTANT = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])"
)
_ADDRESS = {
    "line": "line",
    "city": "city",
    "state": "state",
    "postal_code": "postalCode",
    "country": "country",
}


def read_brands(top: Section, public: str, upstreams: Sequence[Upstream]) -> PublishedBrands | None:
    """What is published; None without the section. Mistakes go to its problems."""
    section = top.section("brands")
    if section is None:
        return None
    if section.has("url"):
        section.known("url", "identifier")
        return PublishedBrands(section.url("url", ("https",)), _identifier(section.section("identifier")))
    section.known("updated", "developer_url", "list")
    bases = [u for u in upstreams if u.kind.startswith("fhir")]
    updated = _instant(section, "updated")
    developer = section.url("developer_url", ("https",))
    names = tuple(_endpoint_id(u.name) for u in bases)
    found: list[Brand] = []
    primary: list[Brand] = []
    for inner in section.sections("list"):
        brand, is_primary = _brand(inner, names, updated)
        if brand.id in [other.id for other in found]:
            inner.report(inner.place("id"), f"the brand '{brand.id}' is there twice")
        found.append(brand)
        primary += [brand] if is_primary else []
    for brand, inner in zip(found, section.sections("list"), strict=True):
        if brand.part_of is not None and brand.part_of not in {b.id for b in found} - {brand.id}:
            inner.report(inner.place("part_of"), f"part_of: there is no other brand '{brand.part_of}'")
    if len(primary) != 1:
        said = f"brands.list has {len(primary)} primary brands, expected one with primary: true"
        section.report(section.place("list"), said)
        return None
    return PublishedBrands(
        url=public + BRANDS_PATH,
        primary=_of_primary(section, primary[0], found),
        bundle=bundle_of(
            found,
            [FhirBase(_endpoint_id(u.name), u.identifier, f"FHIR R4 ({u.name})", developer) for u in bases],
            base=public,
            updated=updated,
        ),
    )


def _of_primary(section: Section, primary: Brand, brands: Sequence[Brand]) -> Identifier | None:
    """The identifier that discovery names: exactly one brand has it (SMART 2.2 @412)."""
    if not primary.identifiers:
        section.report(
            section.place("list"),
            f"the primary brand '{primary.id}' has no identifiers: apps find it by the first of them",
        )
        return None
    first = primary.identifiers[0]
    if sum(each == first for brand in brands for each in brand.identifiers) != 1:
        section.report(
            section.place("list"),
            f"the identifier '{first.value}' of the primary brand is another brand's, too: it must name one alone",
        )
    return first


def _brand(section: Section, bases: tuple[str, ...], updated: str) -> tuple[Brand, bool]:
    section.known(
        "id", "name", "aliases", "website", "identifiers", "categories", "logo", "logo_license", "addresses", "part_of",
        "portals", "endpoints", "primary", "updated",
    )  # fmt: skip
    is_primary = section.flag("primary", False)
    id = section.text("id")
    if id and not _ID.fullmatch(id):
        section.report(section.place("id"), f"id: '{id}' must have 1 to 64 of A-Z a-z 0-9 - .")
    endpoints = _endpoints(section, bases, default=bases if is_primary else ())
    if is_primary and set(endpoints) != set(bases):
        section.report(
            section.place("endpoints"),
            "the primary brand references every FHIR upstream: leave endpoints out",
        )
    brand = Brand(
        id=id,
        name=section.text("name"),
        website=_web(section, "website", or_absent=True) or "",
        updated=_instant(section, "updated") if section.has("updated") else updated,
        identifiers=tuple(
            found for each in section.sections("identifiers") if (found := _identifier(each)) is not None
        ),
        aliases=section.texts("aliases"),
        categories=section.words("categories", CATEGORIES) if section.has("categories") else (),
        logo=_web(section, "logo") if section.has("logo") else None,
        logo_license=_web(section, "logo_license") if section.has("logo_license") else None,
        addresses=tuple(_address(each) for each in section.sections("addresses")),
        part_of=section.optional_text("part_of"),
        portals=tuple(_portal(each, bases, endpoints) for each in section.sections("portals")),
        endpoints=endpoints,
    )
    return brand, is_primary


def _portal(section: Section, bases: tuple[str, ...], of_brand: tuple[str, ...]) -> Portal:
    section.known("name", "url", "description", "logo", "logo_license", "endpoints")
    return Portal(
        name=section.text("name"),
        url=_web(section, "url", or_absent=True) or "",
        description=section.optional_text("description"),
        logo=_web(section, "logo") if section.has("logo") else None,
        logo_license=_web(section, "logo_license") if section.has("logo_license") else None,
        endpoints=_endpoints(section, bases, default=of_brand),
    )


def _identifier(section: Section | None) -> Identifier | None:
    if section is None:
        return None
    section.known("system", "value")
    value, system = section.text("value"), section.text("system", URI_SYSTEM)
    if system == URI_SYSTEM and not value.startswith("https://"):
        section.report(
            section.place("value"),
            f"value: '{value}' is no https URL, as identifiers of {URI_SYSTEM} are here",
        )
    return Identifier(value, system)


def _address(section: Section) -> Mapping[str, object]:
    """An Address of FHIR; a postal code alone may stand for one."""
    section.known(*_ADDRESS)
    found: dict[str, object] = {}
    for key, member in _ADDRESS.items():
        if section.has(key):
            found[member] = list(section.texts(key)) if key == "line" else section.text(key)
    if not found.keys() - {"country"}:
        section.report(section.node.place, f"{section.path} must name a place: {', '.join(_ADDRESS)}")
    return found


def _endpoints(section: Section, bases: tuple[str, ...], *, default: tuple[str, ...]) -> tuple[str, ...]:
    return section.words("endpoints", bases) if section.has("endpoints") else default


def _web(section: Section, key: str, *, or_absent: bool = False) -> str | None:
    """An https address; a logo may be data: instead, and a reason may stand where a brand gave nothing."""
    text = section.text(key, expected="an https URL")
    allowed = ("https://", "data:image/") if key == "logo" else ("https://",)
    if text and not text.startswith(allowed) and not (or_absent and text in ABSENT):
        more = f", or one of {', '.join(ABSENT)}" if or_absent else ""
        section.report(section.place(key), f"{key}: '{text[:80]}' is no https URL{more}")
    return text


def _instant(section: Section, key: str) -> str:
    text = section.text(key, expected="an instant such as 2027-01-31T09:00:00Z")
    if text and not _INSTANT.fullmatch(text):
        section.report(
            section.place(key), f"{key}: '{text}' is no instant, expected for example 2027-01-31T09:00:00Z"
        )
    return text


def _endpoint_id(name: str) -> str:
    """The id of an upstream's Endpoint: its name, in the characters that an id has."""
    return re.sub(r"[^A-Za-z0-9\-.]", "-", name)[:64]
