"""A clinical document as a page: what is shown of it, and that nothing of it becomes markup of ours."""

import gzip
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cda.parser import DocumentError
from gateway.cda.view import View
from gateway.cda.view_facts import time
from gateway.cda.view_page import HEADERS, WITHHELD
from tests.support.documents import document
from tests.support.injected_documents import WORD, injected, narrative, unstructured

SAMPLES = sorted((Path(__file__).parents[1] / "data" / "cda").glob("*.xml.gz"))
TRAP = "https://trap.example"
# Every element and attribute that a page may have: none of them runs or loads anything.
ELEMENTS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "h4", "h5", "h6", "bdi", "p", "dl", "div",
    "dt", "dd", "footer", "section", "table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th", "ul", "ol", "li",
    "span", "sub", "sup", "br", "ins", "del", "pre",
}  # fmt: skip
ATTRIBUTES = {
    "lang": r"[a-z]{2}(-[A-Z]{2})?", "class": "(b|i|u| |p|caption|note|address|notice)+", "colspan": r"[1-9]\d?|100",
    "rowspan": r"[1-9]\d?|100", "scope": "col|row",
}  # fmt: skip
VOID = ("meta", "br")
NAMES = (
    "table", "thead", "tbody", "tr", "td", "th", "list", "item", "caption", "paragraph", "content", "sub", "br",
    "linkHtml", "x", "script", "col",
)  # fmt: skip
V3 = "{urn:hl7-org:v3}"


class Page(HTMLParser):
    """What another parser sees: elements, attributes, words, and whether all that opens closes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.words: list[str] = []
        self.feed(content.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS
        self.seen.append(tag)
        for name, value in attrs:
            if tag != "meta":
                assert re.fullmatch(ATTRIBUTES[name], value or ""), (tag, name, value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def page(content: bytes, pieces: int = 1 << 20, **more: int) -> bytes:
    """The page, from pieces of that size."""
    view = View(**more)
    out = b"".join(view.feed(content[at : at + pieces]) for at in range(0, len(content), pieces))
    return out + view.finish()


def text_of(content: bytes) -> str:
    return Page(page(content)).text


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_sample_document_is_shown_with_its_header_and_all_its_sections(path: Path) -> None:
    content = gzip.decompress(path.read_bytes())
    found = page(content)
    seen = Page(found)
    for name in ("Patient", "Document", "Date", "Confidentiality", "Author", "Custodian"):
        assert name in seen.text
    assert "Normal (N)" in seen.text
    sections = ElementTree.fromstring(content).findall(f".//{V3}component/{V3}section")
    assert seen.seen.count("section") == len(sections)
    for section in sections:
        narrative_of = section.find(f"{V3}text")
        texts = () if narrative_of is None else narrative_of.itertext()
        assert [word for text in texts for word in text.split() if word not in seen.text] == []
        assert " ".join((section.findtext(f"{V3}title") or "").split()) in seen.text
    assert page(content, 13) == found


def test_the_header_is_told_in_the_words_of_the_document() -> None:
    path = next(p for p in SAMPLES if p.name.startswith("CCD_2"))
    text = text_of(gzip.decompress(path.read_bytes()))
    assert "Good Health HIE" in text
    assert "The Doctors Together Physician Group" in text
    assert "2014-10-15 10:30:26 -05:00" in text


def test_what_the_narrative_can_say_is_said() -> None:
    inner = (
        '<paragraph><content styleCode="Bold">one</content><br/><sub>two</sub><sup>three</sup></paragraph>'
        '<list listType="ordered"><caption>four</caption><item>five</item></list><list><item>six</item></list>'
        '<table><caption>seven</caption><thead><tr><th colspan="2">eight</th></tr></thead>'
        '<tbody><tr><th>nine</th><td rowspan="3">ten</td></tr></tbody></table><footnote>eleven</footnote>'
        '<linkHtml href="https://hospital.example/a?b=1&amp;c=2">twelve</linkHtml><renderMultiMedia referencedObject="m"/>'
        '<content revised="delete">old</content><content revised="insert">new</content>'
    )
    found = page(narrative(inner)).decode()
    for expected in (
        '<span class="b">one</span><br><sub>two</sub><sup>three</sup>',
        '<div class="caption">four</div><ol><li>five</li></ol><ul><li>six</li></ul>',
        '<table><caption>seven</caption><thead><tr><th scope="col" colspan="2">eight</th></tr></thead>',
        '<tbody><tr><th scope="row">nine</th><td rowspan="3">ten</td></tr></tbody></table>',
        "(https://hospital.example/a?b=1&amp;c=2)",
        "A picture or sound is in the document.",
        "<del>old</del><ins>new</ins>",
    ):
        assert expected in found
    assert "is not shown here" not in found


def test_names_are_read_whole_and_apart() -> None:
    name = (
        "<patient><name><given>Ma<!-- -->ria</given><family><![CDATA[O'Hara & Co]]></family></name></patient>"
    )
    content = document(ids=f"<id root='1.2' extension='7'/>{name}")
    text = text_of(content)
    assert "Maria O'Hara & Co" in text
    assert "7 (1.2)" in text


def test_sections_within_sections_have_headings_of_their_own() -> None:
    inner = "<component><section><title>Inner</title><text>b</text></section></component>"
    body = f"<component><section><title>Outer</title><text>a</text>{inner}</section></component>"
    found = page(document(body=f"<structuredBody>{body}</structuredBody>")).decode()
    assert (
        "<section><h2>Outer</h2><div>a</div><section><h3>Inner</h3><div>b</div></section></section>" in found
    )


@pytest.mark.parametrize("name", sorted(injected(TRAP)))
def test_nothing_of_a_document_becomes_markup(name: str) -> None:
    content = injected(TRAP)[name]
    assert WORD in Page(page(content)).text
    assert page(content, 7) == page(content)


@pytest.mark.parametrize(
    "inner",
    [
        "<table>lost</table>", "<table><tbody>lost</tbody></table>", "<table><tbody><tr>lost</tr></tbody></table>",
        "<table><tr><td>x</td></tr><caption>lost</caption></table>", "<list>lost</list>",
        "<list><paragraph>lost</paragraph></list>",
        "<table><tbody><tr><paragraph>lost</paragraph></tr></tbody></table>", "<script>lost</script>",
        "<x:td xmlns:x='urn:x'>lost</x:td>", "<table><td>lost</td></table>",
    ],
)  # fmt: skip
def test_what_stands_where_nothing_may_stand_is_named_and_not_shown(inner: str) -> None:
    text = text_of(narrative(inner))
    assert "lost" not in text
    assert "is not shown here" in text


@pytest.mark.parametrize(
    "inner", ["<td>kept</td>", "<div>kept</div>", "<content><paragraph>kept</paragraph></content>"]
)
def test_words_in_unknown_or_lone_elements_are_shown(inner: str) -> None:
    text = text_of(narrative(inner))
    assert "kept" in text
    assert "is not shown here" not in text


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        " JaVaScRiPt:x",
        "data:text/html,x",
        "file:///etc/passwd",
        "https://a b",
        "//x.example",
    ],
)
def test_an_address_that_could_run_is_not_even_told(href: str) -> None:
    found = page(narrative(f'<linkHtml href="{href}">press</linkHtml>')).decode()
    assert href.strip() not in found
    assert "its address is not shown" in found


def test_letters_that_turn_others_round_are_replaced() -> None:
    found = page(narrative("a\u202eb\u202dc\x85d")).decode()
    assert "a\ufffdb\ufffdc\ufffdd" in found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (unstructured("plain words", "text/plain"), "plain words"),
        (unstructured("cGxhaW4gd8O2cmRz", "text/plain", ' representation="B64"'), "plain wörds"),
        (unstructured("QUJD\n QUJD", "application/pdf", ' representation="B64"'), "application/pdf, 6 bytes"),
        (unstructured("{\\rtf1}", "text/rtf"), "text/rtf, 7 bytes"),
        (unstructured("QQ=", "text/plain", ' representation="B64"'), "is not shown here"),
        (unstructured("****", "text/plain", ' representation="B64"'), "is not shown here"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_structured_is_shown_or_named(content: bytes, said: str) -> None:
    assert said in text_of(content)
    assert page(content, 3) == page(content)


def test_a_page_has_a_bound_and_says_so() -> None:
    content = narrative("<paragraph>words</paragraph>" * 10_000 + "<list><item>x</item></list>" * 1000)
    found = page(content, max_bytes=20_000)
    assert len(found) < 30_000
    assert "too long to be shown whole" in Page(found).text
    assert "too long" not in Page(page(content)).text


def test_what_was_withheld_is_said_first_or_else_last() -> None:
    content = narrative("x")
    first, last = View(), View()
    first.is_withheld = True
    told = (first.feed(content) + first.finish()).decode()
    early = last.feed(content + b"<!--" + b"x" * 8000 + b"-->")
    assert WITHHELD not in early.decode()
    last.is_withheld = True
    late = (early + last.finish()).decode()
    assert told.count(WITHHELD) == late.count(WITHHELD) == 1
    assert told.index(WITHHELD) < told.index(WORD)
    assert late.index(WORD) < late.index(WITHHELD)


@pytest.mark.parametrize(
    "content", [b"<x/>", b"<html xmlns='http://www.w3.org/1999/xhtml'/>", narrative("x")[:-3], narrative("<!DOCTYPE x>"),
                narrative("<a>" * 130 + "</a>" * 130)],
)  # fmt: skip
def test_what_is_no_document_has_no_view(content: bytes) -> None:
    with pytest.raises(DocumentError):
        page(content)


@pytest.mark.parametrize(
    ("value", "said"),
    [("2026", "2026"), ("202601", "2026-01"), ("20260102", "2026-01-02"), ("202601020304", "2026-01-02 03:04"),
     ("20260102030405.1234-0530", "2026-01-02 03:04:05 -05:30"), ("<x>", "<x>"), ("", "")],
)  # fmt: skip
def test_times_are_written_as_people_do(value: str, said: str) -> None:
    assert time(value) == said


@given(
    st.recursive(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=8).map(
            lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        ),
        lambda inner: st.builds(
            lambda name, parts: f"<{name}>{''.join(parts)}</{name}>",
            st.sampled_from(NAMES),
            st.lists(inner, max_size=4),
        ),
        max_leaves=30,
    )
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_whatever_the_narrative_is_the_page_is_well_made(inner: str) -> None:
    assert WORD in Page(page(narrative(inner.replace("\ufffe", "").replace("\uffff", "")))).text


@pytest.mark.parametrize(
    ("language", "told"), [("de", True), ("de-CH", True), ("zz", False), ("eng", False), ("de-ch", False), ("", False)]
)  # fmt: skip
def test_the_language_is_told_on_where_it_is_one(language: str, told: bool) -> None:
    found = page(narrative("", before=f"<languageCode code='{language}'/>")).decode()
    assert (f'<div lang="{language}">' in found) is told


def test_the_policy_of_the_page_allows_its_own_stylesheet_alone() -> None:
    said = dict(HEADERS)
    assert said["Content-Security-Policy"].startswith("sandbox; default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in said["Content-Security-Policy"]
    assert said["Referrer-Policy"] == "no-referrer"
