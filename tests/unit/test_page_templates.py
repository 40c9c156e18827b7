"""Templates of pages: every one compiles, though no server compiles it before it is shown."""

import re
from importlib import resources

import pytest
from jinja2 import Environment, UndefinedError
from jinja2.meta import find_referenced_templates

from authz.login import accounts
from authz.login.language import LANGUAGES, Language
from authz.login.page_templates import PageTemplates

PACKAGES = ("authz.login", "gateway.officer", "gateway.report")
PAGES = [
    (package, file.name)
    for package in PACKAGES
    for file in resources.files(package).joinpath("templates").iterdir()
    if file.name.endswith(".html")
]


@pytest.mark.parametrize("language", [None, *LANGUAGES.values()], ids=str)
@pytest.mark.parametrize(("package", "name"), PAGES)
def test_every_template_compiles_and_so_does_what_it_names(
    package: str, name: str, language: Language | None
) -> None:
    templates = PageTemplates(package, {"when": str})
    compiled = templates._environment("" if language is None else language.code, language)
    compiled.get_template(name)
    for other in find_referenced_templates(compiled.parse(templates.read(name))):
        assert other is not None
        compiled.get_template(other)


def rendered_as_written(source: str, language: Language) -> str:
    """What a template says that asks for each text when it is shown."""
    written = source.replace("{{ t(", "{{ language(")  # a name that nobody looks for
    return Environment(autoescape=True).from_string(written).render(language=language)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=str)
def test_a_text_that_stands_in_a_template_is_the_one_that_would_be_asked_for(
    language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = [
        key for key in language.texts if re.fullmatch("[a-z_.]+", key) and language.fixed(key) is not None
    ]
    assert len(fixed) > 100
    source = "".join(f"<p title=\"{{{{ t('{key}') }}}}\">{{{{ t('{key}') }}}}</p>\n" for key in fixed)
    templates = PageTemplates("authz.login")
    monkeypatch.setattr(templates, "read", lambda name: source)
    assert "t('" not in templates._read_in(language, "x.html")
    assert templates.render("x.html", t=language) == rendered_as_written(source, language)


@pytest.mark.parametrize("said", ["{{ 7 * 7 }}", "{% raw %}", "{# x", "<b>&amp;</b>", "}}", "a {b", "\\n\\1"])
def test_a_text_is_never_read_as_a_template(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    language = Language("xx", "XX", {"one": said.replace("{", "{{").replace("}", "}}")})
    source = "<p>{{ t('one') }}</p>{{ t('one') }}"
    templates = PageTemplates("authz.login")
    monkeypatch.setattr(templates, "read", lambda name: source)
    shown = templates.render("x.html", t=language)
    assert shown == f"<p>{said}</p>{said}" == rendered_as_written(source, language)


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
