"""Ids of resources (FHIR R4 2.24.0.1)."""

import re

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")


def is_id(text: str) -> bool:
    """Whether text is a FHIR id. '.' and '..' are not, though the grammar of FHIR R4 2.24.0.1 would have them."""
    return _ID.fullmatch(text) is not None and text not in (".", "..")
