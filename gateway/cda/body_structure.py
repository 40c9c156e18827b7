"""What may stand in the body of a clinical document, and in which order (HL7 CDA R2 4.3), down to the statement of an entry.

What is inside of statements and narrative is not held against a structure. Elements of other namespaces are extensions.
"""

from gateway.cda.parser import DocumentError

_INFRASTRUCTURE = ("realmCode", "typeId", "templateId")
_STATEMENTS = frozenset(
    {
        "act", "encounter", "observation", "observationMedia", "organizer", "procedure", "regionOfInterest",
        "substanceAdministration", "supply",
    }
)  # fmt: skip
_ORDERED: dict[str, tuple[str, ...]] = {
    "structuredBody": (*_INFRASTRUCTURE, "confidentialityCode", "languageCode", "component"),
    "nonXMLBody": (*_INFRASTRUCTURE, "text", "confidentialityCode", "languageCode"),
    "component": (*_INFRASTRUCTURE, "section"),
    "section": (
        *_INFRASTRUCTURE, "id", "code", "title", "text", "confidentialityCode", "languageCode", "subject", "author",
        "informant", "entry", "component",
    ),
    "entry": (*_INFRASTRUCTURE, "statement"),
}  # fmt: skip
_MANY = frozenset({"realmCode", "templateId", "author", "informant", "entry"})
_FROM_DEPTH = 2  # structuredBody or nonXMLBody


class BodyStructure:
    """Told of each element of the body as it begins and ends; begins() raises DocumentError."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str, int]] = []  # depth, name, place of the child that came last

    def begins(self, name: str, depth: int) -> None:
        """An element of HL7's namespace begins, in the component of the document."""
        if depth == _FROM_DEPTH and name in _ORDERED:
            self._open.append((depth, name, -1))
        if not self._open or depth != self._open[-1][0] + 1:
            return
        above, parent, last = self._open[-1]
        child = "statement" if parent == "entry" and name in _STATEMENTS else name
        order = _ORDERED[parent]
        if child not in order:
            raise DocumentError(f"a {parent} of the document has an element that CDA R2 does not know there")
        place = order.index(child)
        is_many = child in _MANY or (child == "component" and parent != "component")
        if place < last or (place == last and not is_many):
            raise DocumentError(f"{name} of a {parent} is not at its place, or there twice (CDA R2 4.3)")
        self._open[-1] = (above, parent, place)
        if child in _ORDERED:
            self._open.append((depth, child, -1))

    def ends(self, depth: int) -> None:
        """An element ends."""
        if self._open and self._open[-1][0] == depth:
            self._open.pop()
