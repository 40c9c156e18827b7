"""`documents` of a mount whose documents no FHIR store keeps: where they are, and which mount knows their patients."""

import re
from collections.abc import Sequence
from dataclasses import replace

from gateway.cda.harmful import Harm
from gateway.config.schema import Section
from gateway.config.xds import KEYS, read_xds
from gateway.document_settings import DocumentSettings, PatientLookup, SubmissionSettings
from gateway.settings import Upstream

KINDS = ("fhir-r4", "cda-rest", "mhd", "xds")
_PATH = re.compile(r"(?:[A-Za-z0-9._~-]+/)*(?:[A-Za-z0-9_~-]*)\{id\}(?:[A-Za-z0-9._~/-]*)")


def read_documents(upstream: Section, kind: str) -> DocumentSettings | None:
    """The settings; None for a store that knows its own patients."""
    section = upstream.section("documents", required=kind in ("cda-rest", "xds"))
    if section is None:
        return None
    if kind == "fhir-r4":
        upstream.report(
            section.node.place, f"{section.path} is for a mount of documents: 'cda-rest', 'mhd' or 'xds'"
        )
    if kind == "mhd":
        section.known("patients")
        return DocumentSettings(
            section.text("patients", expected="the name of the mount that knows the patients")
        )
    if kind == "xds":
        section.known("patients", "patient_lookup", "submission", *KEYS)
        return DocumentSettings(
            section.text("patients", expected="the name of the mount that knows the patients"),
            lookup=PatientLookup(
                section.word("patient_lookup", [word.value for word in PatientLookup], "search")
            ),
            submission=_submission(section),
            xds=read_xds(section),
        )
    section.known("patients", "path", "patient_lookup", "submission")
    path = (section.optional_text("path") or "/{id}").removeprefix("/")
    if not _PATH.fullmatch(path):
        section.report(
            section.place("path"),
            f"{section.path}.path is '{path}', expected a path such as /documents/{{id}}",
        )
    return DocumentSettings(
        section.text("patients", expected="the name of the mount that knows the patients"),
        path,
        PatientLookup(section.word("patient_lookup", [word.value for word in PatientLookup], "search")),
        _submission(section),
    )


def _submission(documents: Section) -> SubmissionSettings:
    section = documents.section("submission")
    default = SubmissionSettings()
    if section is None:
        return default
    section.known("structure", "refuse", "largest")
    words = section.words("refuse", sorted(Harm)) if section.has("refuse") else default.refused
    return SubmissionSettings(
        section.word("structure", ("checked", "unchecked"), "checked") == "checked",
        frozenset(map(Harm, words)),
        section.size("largest", default.largest),
    )


def with_patients(top: Section, upstreams: Sequence[Upstream]) -> tuple[Upstream, ...]:
    """The mounts, where documents take identifier systems and consents of their patients' mount unless they say them."""
    by_name = {each.name: each for each in upstreams}
    found = []
    for each in upstreams:
        store = None if each.documents is None else by_name.get(each.documents.patients)
        if each.documents is not None and (store is None or store.documents is not None):
            said = f"upstreams.{each.name}.documents.patients names '{each.documents.patients}'"
            top.report(top.place("upstreams"), f"{said}, expected one of the FHIR stores here")
        if each.kind == "mhd" and store is None and each.consents is not None and each.consents.kept_here:
            said = f"upstreams.{each.name}.consents.source is 'kept'"
            top.report(top.place("upstreams"), f"{said}: consents are kept at the mount of the patients")
        if store is not None:
            each = replace(
                each,
                identifier_systems=each.identifier_systems or store.identifier_systems,
                consents=each.consents or store.consents,
            )
        found.append(each)
    return tuple(found)
