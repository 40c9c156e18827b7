"""JSON text that arrives in parts: where a value or a string ends, told without reading it twice."""

import re

_SCAN = re.compile(r'["\[\]{}]')
_STRING_END = re.compile(r'["\\]')


class CutValue:
    """A string, array or object of which the end has not arrived: its parts, and where in it the text stops."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_parts", "length")

    def __init__(self) -> None:
        self.length = 0  # characters so far: at most its bytes
        self._parts: list[str] = []
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find_end(self, text: str) -> int | None:
        """Where in the further text the value ends; without an end the text is kept."""
        position = 0
        if self._escaped:  # the character behind a backslash
            self._escaped = not text
            position = 1
        while position < len(text):
            match = (_STRING_END if self._in_string else _SCAN).search(text, position)
            if match is None:
                break
            position = match.end()
            mark = match[0]
            if mark == "\\":
                self._escaped = position == len(text)
                position += 1
                continue
            if mark == '"':
                self._in_string = not self._in_string
            elif mark in "[{":
                self._depth += 1
            else:
                self._depth -= 1
            if not self._in_string and self._depth <= 0:
                return position
        self.length += len(text)
        self._parts.append(text)
        return None

    def whole(self, last: str) -> str:
        """The text of the whole value, of which last is the last part."""
        return "".join((*self._parts, last))


def string_end(text: str, position: int) -> int | None:
    """Behind the closing quote of the string whose content begins at position; None when it is not there."""
    while (match := _STRING_END.search(text, position)) is not None:
        if match[0] == '"':
            return match.end()
        position = match.end() + 1
    return None
