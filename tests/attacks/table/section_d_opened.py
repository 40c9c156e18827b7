"""Section D, cases 64 to 68 where policies open `_filter`, `_list`, `_text` and `_content`: what is judged then.

Section D itself has the closed twins: without `query: open` each of them is refused.
"""

from typing import Any

from tests.attacks.table.rows import Row, ask, row
from tests.attacks.table.section_d import OWN
from tests.attacks.table.stores import deaf, forgetful, holding
from tests.support.world import SECRET

_CLOSED = "unsupported-parameter"
_ADDED = "subject=Patient%2FA"
_PLAIN = "_filter=code%20eq%20x"


def opened(id: str, query: str, sent: str, **more: Any) -> Row:
    """A search that passes, narrowed to the own record, before a store that ignores every criterion."""
    said = {"shows": OWN, "twin": "GET /Observation?code=x"} | more
    return row(
        id,
        f"GET /Observation?{query}",
        200,
        sent=(f"GET Observation?{sent}&{_ADDED}",),
        world="opened",
        **said,
    )


def closed(id: str, line: str, status: int = 403, reason: str = _CLOSED, *, twin: str, **more: Any) -> Row:
    """A search that is refused, and one that differs little and passes."""
    return row(id, line, status, reason, world="opened", twin=ask(twin, more.get("who", "pA-r")), **more)


def staff(id: str, line: str, *, twin: str, who: str = "dr1", **more: Any) -> Row:
    """The same by staff, who may see the marker."""
    return closed(id, line, who=who, twin=twin, sees=True, **more)


def nothing(id: str, query: str, *sent: str, **more: Any) -> Row:
    """A search that finds nothing, of which the store hears no more than sent."""
    said = {"twin": "GET /Observation?_list=mix"} | more
    return row(
        id,
        f"GET /Observation?{query}",
        200,
        sent=sent,
        shows=set(),
        holds=('"total":0',),
        world="opened",
        **said,
    )


_FOREIGN_LIST = {"resourceType": "List", "id": "lb", "status": "current", "mode": "working",
                 "subject": {"reference": "Patient/B"}, "entry": [{"item": {"reference": "Observation/a1"}}],
                 "note": [{"text": SECRET}]}  # fmt: skip
_NOTED_LIST = {
    "resourceType": "List",
    "id": "noted",
    "status": "current",
    "mode": "working",
    "note": [{"text": "x"}],
    "entry": [{"item": {"reference": "Encounter/eb"}}],
}
_OR = "subject%20eq%20Patient%2FA%20or%20subject%20eq%20Patient%2FB"
ROWS = (
    opened("D-064c-own-or-foreign", f"_filter={_OR}", f"_filter={_OR}"),
    opened("D-064d-all-but-the-own", "_filter=not(subject%20ne%20Patient/B)",
           "_filter=not%20%28subject%20ne%20Patient%2FB%29"),
    opened("D-064e-other-spellings-are-one", "_filter=%20((code%20eq%20%22x%22)%20)%20", _PLAIN),
    opened("D-064f-what-would-end-the-term", "_filter=code%20eq%20x%26subject%3DPatient/B",
           "_filter=code%20eq%20%22x%26subject%3DPatient%2FB%22"),
    nothing("D-064g-the-foreign-alone", "_filter=subject%20eq%20Patient/B%20and%20code%20eq%20x", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064h-a-chain", "GET /Observation?_filter=subject.name%20co%20%22x%22", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064i-a-filter-in-brackets", "GET /Observation?_filter=related%5Btype%20eq%20x%5D.target%20pr%20true",
           twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064j-labels", "GET /Observation?_filter=not(_security%20eq%20R)", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064k-a-value-set", "GET /Observation?_filter=code%20in%20http://evil.example/ValueSet/x",
           twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064l-a-filter-in-a-filter", "GET /Observation?_filter=_filter%20eq%20x", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064m-two-readings", "GET /Observation?_filter=code%20eq%20x%20or%20code%20eq%20y%20and%20status%20eq%20final",
           400, "ambiguous-query",
           twin="GET /Observation?_filter=(code%20eq%20x%20or%20code%20eq%20y)%20and%20status%20eq%20final"),
    closed("D-064n-nothing-that-has-a-meaning", "GET /Observation?_filter=code", 400, "invalid-parameter",
           twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064o-a-parameter-that-nobody-knows", "GET /Observation?_filter=categroy%20eq%20x", 400, "unknown-parameter",
           twin="GET /Observation?_filter=category%20eq%20x"),
    closed("D-064p-two-filters", f"GET /Observation?{_PLAIN}&{_PLAIN}", 400, "ambiguous-query",
           twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064q-a-parameter-that-the-permit-closes", "GET /Observation?_filter=code%20eq%20x%20or%20value-string%20eq%20y",
           reason="query-closed", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064r-by-form-of-which-the-store-says-nothing", "POST /Observation/_search", body=b"_filter=code%20eq%20x",
           twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064s-in-a-chain", "GET /Observation?subject:Patient._filter=gender%20eq%20male",
           twin="GET /Patient?_filter=gender%20eq%20male"),
    closed("D-064t-in-a-reverse-chain", "GET /Patient?_has:Observation:subject:_filter=code%20eq%20x",
           twin="GET /Patient?_filter=gender%20eq%20male"),
    closed("D-064u-to-sort-by", "GET /Observation?_sort=_filter", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064v-with-a-modifier", "GET /Observation?_filter:exact=code%20eq%20x", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064w-in-a-conditional-write", f"DELETE /Observation?{_PLAIN}", who="pA-rw", twin=f"GET /Observation?{_PLAIN}"),
    closed("D-064x-a-store-that-passes-it-over", f"GET /Observation?{_PLAIN}", 502, "narrowing-ignored",
           store=forgetful("_filter"), sent=(f"GET Observation?{_PLAIN}&{_ADDED}",), twin=f"GET /Observation?{_PLAIN}"),
    staff("D-064y-hidden-elements", "GET /Patient?_filter=name%20co%20%22Smith%22",
          twin="GET /Patient?_filter=gender%20eq%20male"),
    staff("D-064z-hidden-elements-under-or-and-not", "GET /Patient?_filter=gender%20eq%20male%20or%20not(identifier%20eq%20x)",
          twin="GET /Patient?_filter=gender%20eq%20male"),
    row("D-066c-a-list-that-mixes-patients", "GET /Observation?_list=mix", 200, shows={"Observation/a1"}, world="opened",
        sent=("GET List/mix", f"GET Observation?_list=mix&{_ADDED}"), twin="GET /Observation?code=x"),
    nothing("D-066d-a-list-of-another", "_list=lb", "GET List/lb", store=holding(_FOREIGN_LIST)),
    nothing("D-066e-a-list-that-nobody-has", "_list=lb", "GET List/lb"),
    closed("D-066f-a-list-that-the-store-makes-up", "GET /Patient?_list=$current-problems", twin="GET /Observation?_list=mix"),
    closed("D-066g-two-lists", "GET /Observation?_list=mix,lb", 400, "invalid-parameter", twin="GET /Observation?_list=mix"),
    closed("D-066h-a-path-in-place-of-an-id", "GET /Observation?_list=../Patient/B", 400, "invalid-parameter",
           twin="GET /Observation?_list=mix"),
    closed("D-066i-a-store-that-passes-it-over", "GET /Observation?_list=mix", 502, "narrowing-ignored",
           store=forgetful("_list"), sent=("GET List/mix", f"GET Observation?_list=mix&{_ADDED}"),
           twin="GET /Observation?_list=mix"),
    row("D-066j-a-list-that-is-seen-in-part", "GET /Encounter?_list=noted", 200, who="dr1", shows={"Encounter/eb"}, world="opened",
        sent=("GET List/noted", "GET Encounter?_list=noted"), store=holding(_NOTED_LIST), sees=True, twin=ask("GET /Encounter?_list=noted", "dr1"),
        twin_store=holding({k: v for k, v in _NOTED_LIST.items() if k != "note"})),
    opened("D-068d-full-text-in-the-own-record", "_text=HIV", "_text=HIV"),
    opened("D-068e-all-content-of-the-own-record", "_content=HIV", "_content=HIV"),
    closed("D-068f-nothing-to-look-for", "GET /Observation?_text=%20", 400, "invalid-parameter", twin="GET /Observation?_text=x"),
    closed("D-068g-a-store-that-ignores-the-criteria", "GET /Observation?_text=x", 502, "narrowing-ignored", store=deaf,
           sent=(f"GET Observation?_text=x&{_ADDED}",), twin="GET /Observation?_text=x"),
    staff("D-068h-text-where-elements-are-hidden", "GET /Patient?_text=x", twin="GET /Patient?_filter=gender%20eq%20male"),
    staff("D-068i-text-where-contained-patients-lose-their-names", "GET /Encounter?_text=x",
          twin="GET /Encounter?_filter=status%20eq%20finished"),
    staff("D-068j-text-where-labels-close-some-of-it", "GET /Observation?_text=x", who="nurse",
          twin="GET /Observation?_filter=code%20eq%20x"),
    staff("D-068k-what-the-permit-does-not-open", "GET /Encounter?_content=x",
          twin="GET /Encounter?_filter=status%20eq%20finished"),
    staff("D-068l-text-where-a-deny-closes-some-of-it", "GET /Condition?_text=x", who="sys",
          twin="GET /Condition?_filter=code%20eq%20x"),
)  # fmt: skip
