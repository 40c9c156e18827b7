"""Templates of pages: every one compiles, though no server compiles it before it is shown."""

from importlib import resources

import pytest
from jinja2 import UndefinedError
from jinja2.meta import find_referenced_templates

from authz.login import accounts
from authz.login.page_templates import PageTemplates

PACKAGES = ("authz.login", "gateway.officer", "gateway.report")
PAGES = [
    (package, file.name)
    for package in PACKAGES
    for file in resources.files(package).joinpath("templates").iterdir()
    if file.name.endswith(".html")
]


@pytest.mark.parametrize(("package", "name"), PAGES)
def test_every_template_compiles_and_so_does_what_it_names(package: str, name: str) -> None:
    templates = PageTemplates(package, {"when": str})
    compiled = templates._compiled
    compiled.get_template(name)
    for other in find_referenced_templates(compiled.parse(templates.read(name))):
        assert other is not None
        compiled.get_template(other)


def test_values_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    templates = PageTemplates("authz.login")
    monkeypatch.setattr(templates, "read", lambda name: "<p>{{ said }}</p>")
    assert templates.render("x.html", said="<script>") == "<p>&lt;script&gt;</p>"


def test_a_missing_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    templates = PageTemplates("authz.login")
    monkeypatch.setattr(templates, "read", lambda name: "<p>{{ said }}</p>")
    with pytest.raises(UndefinedError):
        templates.render("x.html")


def test_the_hash_for_names_that_nobody_has_costs_what_ours_cost() -> None:
    assert not accounts._HASHER.check_needs_rehash(accounts._NOBODY)
    assert accounts._HASHER.verify(accounts._NOBODY, "the password of nobody")
