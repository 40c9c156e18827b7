"""Between sections K, L, Q and V: parameters of operations that are no words of their grammar, and credentials."""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_l import ASYNC
from tests.attacks.table.stores import answers

_ALL = "GET /Patient/A/$everything"
_KICK = ask("GET /Group/g/$export", "sys", None, ASYNC, client_id="between")
_STAFF = ask("GET /Observation/a1", "dr1")


def everything(name: str, query: str, **more: Any) -> Row:
    """A parameter of $everything that a store could not read: it would pass it over, and answer wider."""
    return row(
        f"K-{name}",
        f"{_ALL}?{query}",
        400,
        "invalid-parameter",
        twin=f"{_ALL}?start=2020-01-01&_count=5",
        **more,
    )


def secret(name: str, resource: dict[str, Any], *hides: str) -> Row:
    """A resource whose credentials nobody sees, whoever may read it."""
    place = f"{resource['resourceType']}/x"
    return row(f"V-{name}", f"GET /{place}", 200, who="dr1", world="any", sees=True, sent=(f"GET {place}",), twin=_STAFF,
               store=answers(resource | {"id": "x", "status": "active"}), hides=("very-secret", *hides))  # fmt: skip


def _clamped(gateway: Any, reply: Any) -> None:
    assert "_count=200&" in gateway.upstream.requests[1].target


_REQUEST = {
    "operation": {
        "encodeRequestUrl": True,
        "requestHeader": [{"field": "Authorization", "value": "very-secret"}],
    }
}
ROWS = (
    everything("a-start-that-is-no-date", "start=Patient/B"),
    everything("an-end-with-a-prefix", "end=ge2020"),
    everything("a-line-end-for-a-date", "start=%0d%0a"),
    everything("a-second-parameter-in-a-date", "_since=2020%26_type=Group"),
    everything("a-page-of-none", "_count=0"),
    everything("a-page-of-less", "_count=-1"),
    everything("a-page-in-words", "_count=all"),
    row("K-a-date-by-post", "POST /Patient/A/$everything", 400, "invalid-parameter", twin=_ALL, body={
        "resourceType": "Parameters", "parameter": [{"name": "start", "valueString": "x"}]}),
    row("K-a-huge-page", f"{_ALL}?_count=999999", 200, sent=("GET Patient/A", "GET *"), check=_clamped, twin=_ALL),
    row("L-an-export-since-nobody-knows-when", "GET /Group/g/$export?_since=yesterday", 400, "invalid-parameter", who="sys",
        world="export", headers=ASYNC, twin=_KICK),
    secret("credentials-of-an-endpoint", {"resourceType": "Endpoint", "header": ["Authorization: very-secret"]}),
    secret("credentials-of-a-test", {"resourceType": "TestScript", "test": [{"name": "t", "action": [_REQUEST]}]}),
    secret("credentials-of-a-set-up", {"resourceType": "TestScript", "setup": {"action": [_REQUEST]}}),
    row("V-credentials-in-a-bundle", "GET /Bundle/x", 200, who="dr1", world="any", sees=True, twin=_STAFF,
        sent=("GET Bundle/x",), hides=("very-secret",), holds=("SUBSETTED",), store=answers({
            "resourceType": "Bundle", "id": "x", "type": "collection", "entry": [{"resource": {
                "resourceType": "Subscription", "id": "s", "channel": {"header": ["very-secret"]}}}]})),
)  # fmt: skip
