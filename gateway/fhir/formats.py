"""JSON or XML: what a caller asks for and what a body is said to be (FHIR R4 3.1.0.1.9, RFC 9110 12.5.1).

`_format` wins over Accept. Of what Accept allows the best quality wins, then the range that says more, then the one
that stands first; JSON where nothing decides.
"""

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


class Format(Enum):
    """A format of FHIR resources; the value is its media type."""

    JSON = "application/fhir+json"
    XML = "application/fhir+xml"

    @property
    def content_type(self) -> str:
        """The Content-Type of an answer."""
        return f"{self.value}; charset=utf-8"


BOTH = f"{Format.JSON.value} or {Format.XML.value}"
# What `_format` may say. With a space: as `application/fhir+xml` arrives when its plus sign was not escaped.
_WORDS = {
    **dict.fromkeys(("json", "text/json", "application/json"), Format.JSON),
    **dict.fromkeys(("application/fhir+json", "application/fhir json"), Format.JSON),
    # The names before R3, which clients of many ages say to servers of R4 as well.
    **dict.fromkeys(("application/json+fhir", "application/json fhir"), Format.JSON),
    **dict.fromkeys(("xml", "text/xml", "application/xml"), Format.XML),
    **dict.fromkeys(("application/fhir+xml", "application/fhir xml"), Format.XML),
    **dict.fromkeys(("application/xml+fhir", "application/xml fhir"), Format.XML),
}
_ACCEPTED = {word: format for word, format in _WORDS.items() if " " not in word}
_XML_BODIES = frozenset({"application/fhir+xml", "application/xml+fhir", "application/xml", "text/xml"})


@dataclass(frozen=True, slots=True)
class Wish:
    """The format of the answer. by_parameter: `_format` said so, and not Accept."""

    format: Format = Format.JSON
    by_parameter: bool = False


def of_parameter(value: str) -> Format | None:
    """What a `_format` means; None for another format."""
    word, _, parameters = value.partition(";")
    return _WORDS.get(word.strip().lower()) if is_r4_in_utf8(parameters) else None


@lru_cache(256)  # a caller says the same every time
def of_accept(accept: str) -> Format | None:
    """The best that an Accept allows; None when it allows neither format."""
    if not accept.strip():
        return Format.JSON
    named: dict[Format, list[tuple[float, int, int]]] = {Format.JSON: [], Format.XML: []}
    exact: set[Format] = set()  # refused or allowed by their own names
    any_: list[tuple[float, int, int]] = []
    for position, media_range in enumerate(accept.split(",")):
        word, _, parameters = media_range.partition(";")
        word = word.strip().lower()
        if not is_r4_in_utf8(parameters):
            continue
        quality = _quality(parameters)
        if word in ("*/*", "application/*"):
            any_.append((quality, 1 if word == "*/*" else 2, -position))
        elif (format := _ACCEPTED.get(word)) is not None:
            named[format].append((quality, 3, -position))
            if word == format.value:
                exact.add(format)
    best: tuple[tuple[float, int, int], Format] | None = None
    for format, found in named.items():
        ranges = [each for each in found if each[0] > 0]
        if not ranges and format not in exact and any_:
            # RFC 9110 12.5.1: the most specific range says what the quality is.
            ranges = [max(any_, key=lambda each: each[1])]
        for each in ranges:
            if each[0] > 0 and (best is None or each > best[0]):
                best = (each, format)
    return None if best is None else best[1]


def is_xml_body(content_type: str, *, native: bool = False) -> bool:
    """Whether a body is said to be FHIR XML in UTF-8. native: other XML has its own meaning there (a Binary)."""
    word, _, parameters = content_type.partition(";")
    media_type = word.strip().lower()
    if native and "fhir" not in media_type:
        return False
    return media_type in _XML_BODIES and is_r4_in_utf8(parameters)


@lru_cache(256)
def is_r4_in_utf8(parameters: str) -> bool:
    """Whether the parameters of a media type ask for R4 in UTF-8."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        name, value = name.strip().lower(), value.strip().strip('"').lower()
        if name == "charset" and value not in ("utf-8", "utf8", "us-ascii"):
            return False
        if name == "fhirversion" and value not in ("4.0", "4.0.1"):
            return False
    return True


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            value = value.strip()
            return float(value) if _QUALITY.fullmatch(value) else 0.0
    return 1.0
