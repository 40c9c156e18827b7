"""An accounting of disclosures as JSON and as CSV. As FHIR it is a Bundle: gateway.officer.disclosure_bundle."""

from authz.csv_text import csv_text
from gateway.officer.asking import when
from gateway.officer.disclosures import Accounting

_COLUMNS = ("date", "recipient", "address", "disclosed", "purpose", "record")


def as_json(found: Accounting, *, for_officer: bool) -> dict[str, object]:
    """The accounting as one JSON value; for_officer adds how much is left out and suspended."""
    said: dict[str, object] = {
        "base": found.base,
        "patient": found.patient,
        "since": when(found.since),
        "until": when(found.until),
        "disclosures": [
            {
                "date": when(each.at),
                "recipient": each.recipient,
                "address": each.address or None,
                "disclosed": each.what,
                "purpose": each.purpose,
                "record": {"chain": each.chain, "sequence": each.sequence},
            }
            for each in found.disclosures
        ],
        "series": [
            {
                "recipient": each.first.recipient,
                "purpose": each.first.purpose,
                "first": when(each.first.at),
                "count": each.count,
                "last": when(each.last_at),
            }
            for each in found.series
        ],
    }
    return said | ({"left_out": found.left_out, "suspended": found.suspended} if for_officer else {})


def as_csv(found: Accounting) -> str:
    """The accounting as CSV, with a line of names.

    The record of the chain without a name begins with '-', which csv_text() sets apart as it does a formula.
    """
    return csv_text(
        _COLUMNS,
        [
            (
                when(each.at),
                each.recipient,
                each.address,
                each.what,
                each.purpose,
                f"{each.chain or '-'} {each.sequence}",
            )
            for each in found.disclosures
        ],
    )
