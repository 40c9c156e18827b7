"""The narrative of a section as HTML (HL7 CDA R2 4.3.5): each element becomes one of ours, all text is text.

What stands where the format allows nothing (text between rows, a paragraph in a list) would be moved by whoever reads
HTML, and what is of another format (SVG, HTML, scripts) has no meaning here. Neither is shown, and the page says so.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.cda.view_page import shown

_LARGEST_SPAN = 100
_SPAN = re.compile(r"[1-9][0-9]{0,2}")
_ADDRESS = re.compile(r"(?:https?://|mailto:|tel:)[\x21-\x7e]{1,2000}", re.I)
_STYLES = {"Bold": "b", "Italics": "i", "Emphasis": "i", "Underline": "u"}
_NO_TEXT = frozenset({"script", "style", "svg", "math", "object", "embed", "iframe", "template", "noscript"})
_FLOW = {
    "paragraph": ('<div class="p">', "</div>"),
    "caption": ('<div class="caption">', "</div>"),
    "sub": ("<sub>", "</sub>"),
    "sup": ("<sup>", "</sup>"),
    "br": ("<br>", ""),
    "footnote": ('<span class="note"> [', "]</span>"),
    "renderMultiMedia": ('<span class="note"> [A picture or sound is in the document.] ', "</span>"),
    "item": ("<div>", "</div>"),
    "td": ("<div>", "</div>"),
    "th": ("<div>", "</div>"),
    "tr": ("<div>", "</div>"),
}


@dataclass(slots=True)
class _Frame:
    """An element that is open. kind says what may stand in it: flow, table, rows, row, list, or hidden."""

    kind: str
    closing: str = ""
    ordered: bool = False
    has_begun: bool = False
    heads: str = "row"  # of a table's part: what a th in it speaks for


class Narrative:
    """One narrative on its way into the page. put takes HTML and says whether there was room for it; close always has."""

    def __init__(self, put: Callable[[str], bool], close: Callable[[str], None]) -> None:
        self._put = put
        self._close = close
        self._frames = [_Frame("flow")]
        self.has_left_out = False
        """Whether something of it is not shown."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins; name is '' for what is of another namespace."""
        parent = self._frames[-1]
        frame = None
        if parent.kind == "hidden":
            frame = parent
        elif name and name not in _NO_TEXT:
            frame = self._begun(parent, name, attributes)
        if frame is None:
            self.has_left_out = True
            frame = _Frame("hidden")
        self._frames.append(frame)

    def text(self, text: str) -> None:
        """Text stands there."""
        kind = self._frames[-1].kind
        if kind == "flow":
            self._put(shown(text))
        elif text.strip():
            self.has_left_out = True

    def end(self) -> None:
        """The element that began last ends."""
        frame = self._frames.pop()
        if frame.kind != "hidden":
            self._close(frame.closing)

    def _begun(self, parent: _Frame, name: str, attributes: Mapping[str, str]) -> _Frame | None:
        match parent.kind, name:
            case "table", "caption" if not parent.has_begun:
                return self._open(parent, "flow", "<caption>", "</caption>")
            case "table", "col" | "colgroup":
                return _Frame("hidden")
            case "table", "thead" | "tbody" | "tfoot":
                found = self._open(parent, "rows", f"<{name}>", f"</{name}>")
                found.heads = "col" if name == "thead" else "row"
                return found
            case "table" | "rows", "tr":
                found = self._open(parent, "row", "<tr>", "</tr>")
                found.heads = parent.heads
                return found
            case "row", "td":
                return self._open(parent, "flow", f"<td{_spans(attributes)}>", "</td>")
            case "row", "th":
                return self._open(parent, "flow", f'<th scope="{parent.heads}"{_spans(attributes)}>', "</th>")
            case "list", "caption" if not parent.has_begun:
                return _Frame("flow", "</div>") if self._put('<div class="caption">') else _Frame("hidden")
            case "list", "item":
                tag = "ol" if parent.ordered else "ul"
                if not parent.has_begun and self._put(f"<{tag}>"):
                    parent.closing = f"</{tag}>"
                return self._open(parent, "flow", "<li>", "</li>")
            case "flow", _:
                return self._in_flow(parent, name, attributes)
            case _:
                return None

    def _in_flow(self, parent: _Frame, name: str, attributes: Mapping[str, str]) -> _Frame:
        match name:
            case "table":
                return self._open(parent, "table", "<table>", "</table>")
            case "list":
                return _Frame("list", ordered=attributes.get("listType") == "ordered")
            case "content":
                return self._open(parent, "flow", *_content(attributes))
            case "linkHtml":
                return self._open(parent, "flow", "<span>", f"</span>{_address(attributes)}")
            case _:
                # A name that the format does not know is left out, what stands in it is not.
                return self._open(parent, "flow", *_FLOW.get(name, ("<span>", "</span>")))

    def _open(self, parent: _Frame, kind: str, opening: str, closing: str) -> _Frame:
        parent.has_begun = True
        return _Frame(kind, closing) if self._put(opening) else _Frame("hidden")


def _content(attributes: Mapping[str, str]) -> tuple[str, str]:
    match attributes.get("revised"):
        case "delete":
            return "<del>", "</del>"
        case "insert":
            return "<ins>", "</ins>"
        case _:
            classes = sorted(
                {_STYLES[each] for each in attributes.get("styleCode", "").split() if each in _STYLES}
            )
            return f'<span class="{" ".join(classes)}">' if classes else "<span>", "</span>"


def _spans(attributes: Mapping[str, str]) -> str:
    found = ""
    for name in ("colspan", "rowspan"):
        value = attributes.get(name, "")
        if _SPAN.fullmatch(value) and int(value) <= _LARGEST_SPAN:
            found += f' {name}="{int(value)}"'
    return found


def _address(attributes: Mapping[str, str]) -> str:
    """Where a link leads to, as text: nobody follows it by a slip of the hand, and what runs is not even told."""
    href = attributes.get("href", "").strip()
    if not href or href.startswith("#"):
        return ""
    if _ADDRESS.fullmatch(href):
        return f' <span class="address">({shown(href)})</span>'
    return ' <span class="address">(its address is not shown)</span>'
