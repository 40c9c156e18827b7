"""Reading YAML nodes as settings: durations, sizes, URLs, secrets by reference; every mistake with its place."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from gateway.yaml_source import Mapping as YamlMapping
from gateway.yaml_source import Node, Place, Problem, Scalar, Sequence, did_you_mean

_DURATION = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_PER_MINUTE = re.compile(r"([0-9]{1,6})/min")
_SIZE = re.compile(r"([0-9]+)(B|KiB|MiB|GiB)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


class Section:
    """A mapping of the configuration with its path, for texts such as 'listen.public'. Collects problems."""

    def __init__(
        self, node: YamlMapping, path: str, problems: list[Problem], folder: Path, environ: Mapping[str, str]
    ) -> None:
        self.node = node
        self.path = path
        self.problems = problems
        self.folder = folder
        self.environ = environ

    def known(self, *keys: str) -> None:
        """Report every key that is not among keys."""
        for entry in self.node:
            if entry.key not in keys:
                where = f"'{self.path}'" if self.path else "the configuration"
                self.report(entry.place, f"{where} has no key '{entry.key}'.{did_you_mean(entry.key, keys)}")

    def report(self, place: Place, message: str) -> None:
        """Note a problem."""
        self.problems.append(place.problem(message))

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self.node

    def place(self, key: str) -> Place:
        """Where the value of a key stands, or the section itself."""
        node = self.node.node(key)
        return self.node.place if node is None else node.place

    def _wrong(self, key: str, node: Node, expected: str) -> None:
        found = f"'{node.text}'" if isinstance(node, Scalar) and node.value is not None else node.kind
        self.report(node.place, f"{self._name(key)} is {found}, expected {expected}")

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _missing(self, key: str, expected: str) -> None:
        self.report(self.node.place, f"{self._name(key)} is missing, expected {expected}")

    def text(self, key: str, default: str | None = None, *, expected: str = "text") -> str:
        """A text; without a default it must be there."""
        node = self.node.node(key)
        if node is None:
            if default is None:
                self._missing(key, expected)
            return default or ""
        if isinstance(node, Scalar) and isinstance(node.value, str) and node.value.strip():
            return node.value
        self._wrong(key, node, expected)
        return default or ""

    def optional_text(self, key: str) -> str | None:
        """A text, None without one."""
        return self.text(key) if self.has(key) else None

    def word(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        """One of choices."""
        known = list(choices)
        found = self.text(key, default, expected=" or ".join(known))
        if found and found not in known:
            said = (
                f"{self._name(key)} is '{found}', expected {' or '.join(known)}.{did_you_mean(found, known)}"
            )
            self.report(self.place(key), said)
            return default or known[0]
        return found

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        node = self.node.node(key)
        if node is None:
            return default
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        self._wrong(key, node, "true or false")
        return default

    def integer(self, key: str, default: int, *, low: int, high: int) -> int:
        """A whole number between low and high."""
        node = self.node.node(key)
        if node is None:
            return default
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self._wrong(key, node, f"a whole number from {low} to {high}")
        return default

    def seconds(self, key: str, default: float, *, low: float = 0.001, high: float = 400 * 86400) -> float:
        """A duration with its unit, in seconds."""
        node = self.node.node(key)
        if node is None:
            return default
        match = _DURATION.fullmatch(node.text) if isinstance(node, Scalar) else None
        if match is not None:
            found = int(match[1]) * _SECONDS[match[2]]
            if low <= found <= high:
                return found
            expected = f"{_duration(low)} to {_duration(high)}"
            self.report(node.place, f"{self._name(key)} is {node_text(node)}, expected {expected}")
            return default
        self._wrong(key, node, "a duration with its unit, such as 60s, 5m, 1h or 90d")
        return default

    def per_minute(self, key: str, default: int) -> int:
        """How often in a minute: 1 to 1000."""
        text = self.text(key, f"{default}/min")
        match = _PER_MINUTE.fullmatch(text)
        if match is not None and 1 <= int(match[1]) <= 1000:
            return int(match[1])
        said = f"{self._name(key)} is '{text}', expected a number per minute such as {default}/min"
        self.report(self.place(key), said)
        return default

    def size(self, key: str, default: int) -> int:
        """A size with its unit, in bytes."""
        node = self.node.node(key)
        if node is None:
            return default
        match = _SIZE.fullmatch(node.text) if isinstance(node, Scalar) else None
        if match is not None and int(match[1]) > 0:
            return int(match[1]) * _BYTES[match[2]]
        self._wrong(key, node, "a size with its unit, such as 16KiB, 10MiB or 2GiB")
        return default

    def origin(self, key: str) -> str:
        """An https origin without path, '' when it is not one."""
        found = self.text(key, expected="an https origin such as https://fhir.hospital.example")
        if not found:
            return ""
        parts = _split(found)
        if (
            parts is None
            or parts.scheme != "https"
            or parts.path not in ("", "/")
            or parts.query
            or parts.fragment
        ):
            self.report(
                self.place(key), f"{self._name(key)} is '{found}', expected an https origin without a path"
            )
        return found.rstrip("/")

    def url(self, key: str, schemes: tuple[str, ...]) -> str:
        """An absolute URL of one of these schemes."""
        found = self.text(key, expected="a URL")
        parts = _split(found) if found else None
        if found and (parts is None or parts.scheme not in schemes or parts.query or parts.fragment):
            said = f"{self._name(key)} is '{found}', expected a URL of {' or '.join(schemes)} without query"
            self.report(self.place(key), said)
        return found.rstrip("/")

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty without one."""
        node = self.node.node(key)
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            self._wrong(key, node, "a list")
            return ()
        found = []
        for item in node:
            if isinstance(item, Scalar) and isinstance(item.value, str):
                found.append(item.value)
            else:
                self._wrong(key, item, "text")
        return tuple(found)

    def words(self, key: str, choices: Iterable[str]) -> tuple[str, ...]:
        """A list of which each is one of choices; empty without one. What is no choice is reported and left out."""
        known = list(choices)
        found = self.texts(key)
        for text in found:
            if text not in known:
                said = f"{self._name(key)} names '{text}', expected {' or '.join(known)}."
                self.report(self.place(key), said + did_you_mean(text, known))
        return tuple(text for text in found if text in known)

    def section(self, key: str, *, required: bool = False) -> "Section | None":
        """The mapping below a key."""
        node = self.node.node(key)
        if node is None:
            if required:
                self._missing(key, "a mapping")
            return None
        if not isinstance(node, YamlMapping):
            self._wrong(key, node, "a mapping")
            return None
        return Section(node, self._name(key), self.problems, self.folder, self.environ)

    def sections(self, key: str) -> list["Section"]:
        """The mappings of a list below a key."""
        node = self.node.node(key)
        if node is None:
            return []
        if not isinstance(node, Sequence):
            self._wrong(key, node, "a list")
            return []
        found = []
        for number, item in enumerate(node):
            if isinstance(item, YamlMapping):
                path = f"{self._name(key)}[{number}]"
                found.append(Section(item, path, self.problems, self.folder, self.environ))
            else:
                self._wrong(key, item, "a mapping")
        return found

    def path_of(self, key: str, default: str | None = None) -> Path:
        """A path, relative ones from the folder of the file."""
        return self.folder / self.text(key, default, expected="a path")

    def file(self, key: str, *, required: bool = True, must_exist: bool = True) -> Path | None:
        """The file of a reference {file: …}."""
        node = self.node.node(key)
        if node is None:
            if required:
                self._missing(key, "{file: …}")
            return None
        section = self.section(key)
        if section is None:
            return None
        section.known("file")
        name = section.text("file", expected="a path")
        path = self.folder / name
        if name and must_exist and not path.is_file():
            self.report(section.place("file"), f"{self._name(key)}: there is no file '{path}'")
        return path

    def secret(self, key: str, *, required: bool = True) -> str | None:
        """A secret by reference, {file: …} or {env: …}, without line end; never as text."""
        node = self.node.node(key)
        if node is None:
            if required:
                self._missing(key, "{file: …} or {env: …}")
            return None
        if not isinstance(node, YamlMapping):
            # The text itself is not repeated: it may be the secret.
            said = f"{self._name(key)} is {node.kind}, expected a reference, {{file: …}} or {{env: …}}"
            self.report(node.place, said)
            return None
        section = Section(node, self._name(key), self.problems, self.folder, self.environ)
        section.known("file", "env")
        if section.has("file") == section.has("env"):
            self.report(node.place, f"{self._name(key)} must have one of 'file' and 'env'")
            return None
        if section.has("env"):
            name = section.text("env", expected="the name of a variable")
            value = self.environ.get(name, "").strip()
            where = f"the variable '{name}'"
            if name and not value:
                self.report(section.place("env"), f"{self._name(key)}: {where} is not set")
        else:
            name = section.text("file", expected="a path")
            path = self.folder / name
            where = f"the file '{path}'"
            try:
                value = path.read_text(encoding="utf-8").strip() if name else ""
            except (OSError, UnicodeDecodeError):
                self.report(section.place("file"), f"{self._name(key)}: {where} cannot be read as text")
                return None
            if name and not value:
                self.report(section.place("file"), f"{self._name(key)}: {where} is empty")
        if not value.isprintable():
            # It may go into a header or a command: a line break would end it there.
            self.report(node.place, f"{self._name(key)}: {where} holds more than one line of text")
            return None
        return value or None


def node_text(node: Node) -> str:
    """A scalar as written, for an error text."""
    return f"'{node.text}'" if isinstance(node, Scalar) else node.kind


def _duration(seconds: float) -> str:
    """A number of seconds with the largest unit that keeps it whole, as it is written in the file."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"


class _Parts:
    def __init__(self, scheme: str, path: str, query: str, fragment: str) -> None:
        self.scheme, self.path, self.query, self.fragment = scheme, path, query, fragment


def _split(url: str) -> _Parts | None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        return None
    if not parts.hostname or parts.username is not None or not url.isascii() or " " in url:
        return None
    return _Parts(parts.scheme, parts.path, parts.query, parts.fragment)
