"""Templates of pages: read, and compiled, when a page is shown for the first time.

To compile all of them takes longer than the rest of opening a server, and a worker whose callers are systems shows none.
What is escaped, and that a missing value is an error, is said here, for all pages.

A template is compiled once for each language, with the texts that are always the same standing in it: the consent page
has two dozen texts, and to ask for each again was a quarter of what it cost.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment, Template

    from authz.login.language import Language

_TEXT = re.compile(r"\{\{ t\('([a-z0-9_.]+)'\) \}\}")
"""A text by its name, without values."""
_MARKS = re.compile(r"\{[{%#]|[}%#]\}")


class PageTemplates:
    """The templates of a package, in its folder `templates`. filters are for their own use."""

    def __init__(self, package: str, filters: Mapping[str, Callable[..., object]] | None = None) -> None:
        self._package = package
        self._filters = dict(filters or {})
        self._environments: dict[str, Environment] = {}
        self._compiled: dict[tuple[str, str], Template] = {}

    def render(self, name: str, /, *, t: "Language | None" = None, **values: object) -> str:
        """The page; values are escaped. t is its language, for one that has its texts from a catalogue."""
        code = "" if t is None else t.code
        template = self._compiled.get((code, name))
        if template is None:
            template = self._compiled[code, name] = self._environment(code, t).get_template(name)
        return template.render(values) if t is None else template.render(values, t=t)

    def read(self, name: str) -> str:
        """A file of the folder as it is."""
        return resources.files(self._package).joinpath("templates", name).read_text(encoding="utf-8")

    def _environment(self, code: str, language: "Language | None") -> "Environment":
        """How templates are compiled for a language."""
        from jinja2 import Environment, FunctionLoader, StrictUndefined  # with the first page

        if code not in self._environments:
            read = self.read if language is None else partial(self._read_in, language)
            environment = self._environments[code] = Environment(
                autoescape=True,
                undefined=StrictUndefined,
                loader=FunctionLoader(read),
                trim_blocks=True,
                lstrip_blocks=True,
                auto_reload=False,
            )
            environment.filters.update(self._filters)
        return self._environments[code]

    def _read_in(self, language: "Language", name: str) -> str:
        """A template with its fixed texts in that language; what would be read as a template itself stays outside."""

        def text(found: re.Match[str]) -> str:
            said = language.fixed(found[1])
            return found[0] if said is None or _MARKS.search(said) else said

        return _TEXT.sub(text, self.read(name))
