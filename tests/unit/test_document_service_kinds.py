"""What every service of documents must have: one that lacks a part of it is refused when it is made."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.document_services.rest import RestDocuments
from gateway.document_services.service import DocumentService
from gateway.document_settings import DocumentSettings, PatientLookup
from gateway.proxy.upstream import UpstreamClient
from gateway.settings import Upstream

STORE = Upstream("documents", "cda-rest", "/documents", "http://store/d", "https://h/d", frozenset())
SETTINGS = DocumentSettings("fhir", "documents/{id}", PatientLookup.SEARCH)


def never(seconds: float) -> None:
    raise AssertionError(seconds)


PATIENTS = UpstreamClient(STORE, never)
PARTS = sorted(DocumentService.__abstractmethods__)


def test_the_parts_are_those_by_which_a_service_differs() -> None:
    assert PARTS == ["_binary", "_provide", "_reference", "_search"]
    assert isinstance(RestDocuments(STORE, SETTINGS, never, PATIENTS), DocumentService)


@pytest.mark.parametrize("missing", PARTS)
def test_a_service_that_lacks_a_part_is_not_made(missing: str) -> None:
    parts: Mapping[str, Any] = {name: getattr(RestDocuments, name) for name in PARTS if name != missing}
    lacking: Any = type("Lacking", (DocumentService,), {**parts, "capabilities": {}})
    with pytest.raises(TypeError, match=missing):
        lacking(STORE, never, PATIENTS, PatientLookup.SEARCH)
