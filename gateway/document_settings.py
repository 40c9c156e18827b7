"""Services of documents that are no FHIR store: `documents` of an upstream, read, checked and frozen."""

import re
from dataclasses import dataclass
from enum import StrEnum

from gateway.cda.harmful import Harm
from gateway.xds_settings import XdsSettings


class PatientLookup(StrEnum):
    """How the patient of a document is found by the document's identifiers."""

    SEARCH = "search"  # of Patient, as IHE PDQm has it
    PIX = "pix"  # IHE PIXm


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """What of new documents is looked at before the store has them.

    structure  whether the header must be as CDA R2 has it: what must stand there, and in which order
    refused    kinds of content that are not taken, as a document or in one
    largest    the most bytes of one document
    """

    structure: bool = True
    refused: frozenset[Harm] = frozenset(Harm)
    largest: int = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DocumentSettings:
    """A service of documents that is no FHIR store, and the mount of the FHIR store that knows its patients.

    path is where a document is, above its id: 'documents/{id}'.
    """

    patients: str
    path: str = "{id}"
    lookup: PatientLookup = PatientLookup.SEARCH
    submission: SubmissionSettings = SubmissionSettings()
    xds: XdsSettings | None = None  # of a mount of kind 'xds'

    @property
    def collection(self) -> str:
        """Where new documents are sent to."""
        return self.path.partition("{id}")[0].rstrip("/")

    def path_of(self, id_: str) -> str:
        """The path of a document, relative to the base."""
        return self.path.replace("{id}", id_)

    def id_at(self, url: str) -> str | None:
        """The id of the document at this address, as a store writes it into Location; None for no such place."""
        before, _, after = self.path.partition("{id}")
        found = re.fullmatch(rf"(?:.*/)?{re.escape(before)}([A-Za-z0-9.-]{{1,64}}){re.escape(after)}", url)
        return None if found is None or found[1] in (".", "..") else found[1]

    def fhir_path(self, path: str) -> str:
        """A path below the mount as FHIR has it: documents are Binaries."""
        if path.strip("/") == self.collection:
            return "/Binary"
        before, _, after = self.path.partition("{id}")
        found = re.fullmatch(rf"/{re.escape(before)}([A-Za-z0-9.-]{{1,64}}){re.escape(after)}", path)
        is_own = found is not None and found[1] not in (".", "..", "metadata")
        return f"/Binary/{found[1]}" if found is not None and is_own else path
