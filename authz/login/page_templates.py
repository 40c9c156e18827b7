"""Templates of pages: read, and compiled, when a page is shown for the first time.

To compile all of them takes longer than the rest of opening a server, and a worker whose callers are systems shows none.
What is escaped, and that a missing value is an error, is said here, for all pages.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


class PageTemplates:
    """The templates of a package, in its folder `templates`. filters are for their own use."""

    def __init__(self, package: str, filters: Mapping[str, Callable[..., object]] | None = None) -> None:
        self._package = package
        self._filters = dict(filters or {})

    def render(self, name: str, /, **values: object) -> str:
        """The page; values are escaped."""
        return self._compiled.get_template(name).render(**values)

    def read(self, name: str) -> str:
        """A file of the folder as it is."""
        return resources.files(self._package).joinpath("templates", name).read_text(encoding="utf-8")

    @cached_property
    def _compiled(self) -> "Environment":
        from jinja2 import Environment, FunctionLoader, StrictUndefined  # with the first page

        environment = Environment(
            autoescape=True,
            undefined=StrictUndefined,
            loader=FunctionLoader(self.read),
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters.update(self._filters)
        return environment
