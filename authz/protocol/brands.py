"""User-access brands: what apps show of a hospital before anybody signs in, as one FHIR Bundle (SMART App Launch 2.2).

A brand is an Organization, each FHIR base of this gateway an Endpoint. The primary brand references every Endpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

URI_SYSTEM = "urn:ietf:rfc:3986"
ABSENT = ("asked-declined", "asked-unknown")
"""The only reasons that a bundle gives for what a brand has not said (SMART 2.2 @405)."""
CATEGORIES = ("prov", "dept", "team", "govt", "ins", "pay", "edu", "reli", "crs", "cg", "bus", "other")
"""Codes of http://terminology.hl7.org/CodeSystem/organization-type."""

_FHIR = "http://hl7.org/fhir/StructureDefinition/"
_SMART = "http://hl7.org/fhir/smart-app-launch/StructureDefinition/"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier of a brand, as the hospital gives it (SMART 2.2 @403)."""

    value: str
    system: str | None = URI_SYSTEM

    def as_fhir(self) -> dict[str, object]:
        """The FHIR Identifier."""
        return {"value": self.value} if self.system is None else {"system": self.system, "value": self.value}


@dataclass(frozen=True, slots=True)
class Portal:
    """Where people manage their account. endpoints are names of mounts. name and url may be one of ABSENT."""

    name: str
    url: str
    description: str | None = None
    logo: str | None = None
    logo_license: str | None = None
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Brand:
    """A name that people know. website may be one of ABSENT; addresses are FHIR Addresses; part_of another's id."""

    id: str
    name: str
    website: str
    updated: str
    identifiers: tuple[Identifier, ...] = ()
    aliases: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    logo: str | None = None
    logo_license: str | None = None
    addresses: tuple[Mapping[str, object], ...] = ()
    part_of: str | None = None
    portals: tuple[Portal, ...] = ()
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FhirBase:
    """A FHIR base that brands give access to. developer_url is where developers configure access to it."""

    id: str
    address: str
    name: str
    developer_url: str
    version: str = "4.0.1"


@dataclass(frozen=True, slots=True)
class PublishedBrands:
    """What discovery tells of brands: the address of the bundle, the primary brand, and the bundle where it is ours."""

    url: str
    primary: Identifier | None
    bundle: Mapping[str, object] | None = None


def bundle_of(
    brands: Sequence[Brand], bases: Sequence[FhirBase], *, base: str, updated: str
) -> dict[str, object]:
    """The Bundle. base is where the ids of its resources are below, updated the instant of the last change (@398)."""
    resources = [
        *(_organization(brand) for brand in brands),
        *(_endpoint(each, updated) for each in bases),
    ]
    return {
        "resourceType": "Bundle",
        "meta": {"lastUpdated": updated, "profile": [f"{_SMART}user-access-brands-bundle"]},
        "type": "collection",
        "timestamp": updated,
        "entry": [
            {"fullUrl": f"{base}/{resource['resourceType']}/{resource['id']}", "resource": resource}
            for resource in resources
        ],
    }


def _organization(brand: Brand) -> dict[str, object]:
    extensions = [*_brand_extension(brand), *(_portal_extension(portal) for portal in brand.portals)]
    found: dict[str, object] = {
        "resourceType": "Organization",
        "id": brand.id,
        "meta": {"lastUpdated": brand.updated, "profile": [f"{_SMART}user-access-brand"]},
        "extension": extensions,
        "identifier": [each.as_fhir() for each in brand.identifiers],
        "active": True,
        "type": [_concept("organization-type", code) for code in brand.categories],
        "name": brand.name,
        "alias": list(brand.aliases),
        "telecom": [{"system": "url", **_said("value", brand.website)}],
        "address": [dict(address) for address in brand.addresses],
        "endpoint": [_reference("Endpoint", name) for name in brand.endpoints],
    }
    if brand.part_of is not None:
        found["partOf"] = _reference("Organization", brand.part_of)
    return {name: value for name, value in found.items() if value != []}  # FHIR has no empty arrays


def _brand_extension(brand: Brand) -> list[dict[str, object]]:
    inner = _links(("brandLogo", brand.logo), ("brandLogoLicense", brand.logo_license))
    return [{"url": f"{_FHIR}organization-brand", "extension": inner}] if inner else []


def _portal_extension(portal: Portal) -> dict[str, object]:
    inner: list[dict[str, object]] = [{"url": "portalName", **_said("valueString", portal.name)}]
    if portal.description is not None:
        inner.append({"url": "portalDescription", "valueMarkdown": portal.description})
    inner.append({"url": "portalUrl", **_said("valueUrl", portal.url)})
    inner += _links(("portalLogo", portal.logo), ("portalLogoLicense", portal.logo_license))
    inner += [
        {"url": "portalEndpoint", "valueReference": _reference("Endpoint", name)} for name in portal.endpoints
    ]
    return {"url": f"{_FHIR}organization-portal", "extension": inner}


def _endpoint(base: FhirBase, updated: str) -> dict[str, object]:
    return {
        "resourceType": "Endpoint",
        "id": base.id,
        "meta": {"lastUpdated": updated, "profile": [f"{_SMART}user-access-endpoint"]},
        "extension": [{"url": f"{_FHIR}endpoint-fhir-version", "valueCode": base.version}],
        "status": "active",
        "connectionType": {"system": f"{_TERMINOLOGY}endpoint-connection-type", "code": "hl7-fhir-rest"},
        "name": base.name,
        "contact": [{"system": "url", "value": base.developer_url}],
        "payloadType": [_concept("endpoint-payload-type", "none")],
        "address": base.address,
    }


def _links(*pairs: tuple[str, str | None]) -> list[dict[str, object]]:
    return [{"url": name, "valueUrl": url} for name, url in pairs if url is not None]


def _said(member: str, text: str) -> dict[str, object]:
    """The member with its value, or with the reason that it has none."""
    if text not in ABSENT:
        return {member: text}
    return {f"_{member}": {"extension": [{"url": f"{_FHIR}data-absent-reason", "valueCode": text}]}}


def _reference(type_: str, id: str) -> dict[str, object]:
    return {"reference": f"{type_}/{id}"}


def _concept(system: str, code: str) -> dict[str, object]:
    return {"coding": [{"system": f"{_TERMINOLOGY}{system}", "code": code}]}
