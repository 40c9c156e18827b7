"""The languages of the pages: whole catalogues, and whose wish is heard."""

import re
import string
from datetime import date
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from authz.login.language import COOKIE, ENGLISH, LANGUAGES, Language, cookie_of, language_of
from authz.login.plain_words import plain_words
from tests.support.authorization_server import http_request

ROOT = Path(__file__).parents[2]
GERMAN = LANGUAGES["de"]
_SOURCES = [
    *ROOT.glob("authz/**/*.py"),
    *ROOT.glob("gateway/**/*.py"),
    *ROOT.glob("authz/login/templates/*.html"),
    *ROOT.glob("gateway/officer/templates/*.html"),
]
# Texts that are found by a word of the request or the record; what stands before the last dot is written in the code.
_BY_WORD = (
    "month.", "scope.", "whose.", "action.", "type.", "filter.", "relationship.", "access.", "outcome.", "purpose.",
    "status.", "download.", "consent_form.one_", "consent_form.which_",
)  # fmt: skip
_ABOUT = "_about"  # of a page, beside its title
_ELEMENTS = {"strong", "span"}


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=list(LANGUAGES))
def test_every_language_has_the_same_texts_with_the_same_places(language: Language) -> None:
    assert set(language.texts) == set(ENGLISH.texts)
    for key, text in language.texts.items():
        assert _placeholders(text) == _placeholders(ENGLISH.texts[key]), key
        assert text.strip() == text or key == "detail.at", key
        assert text, key


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=list(LANGUAGES))
def test_texts_hold_no_element_but_those_that_stress_and_name_a_language(language: Language) -> None:
    for key, text in language.texts.items():
        opened = re.findall(r"<(\w+)", text)
        assert set(opened) <= _ELEMENTS, key
        assert opened == re.findall(r"</(\w+)>", text), key
        assert "&" not in text, key


def test_every_text_is_used_and_every_text_that_is_used_is_there() -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in _SOURCES}
    used = {
        key for text in sources.values() for key in re.findall(r"['\"]([a-z_]+(?:\.[a-z_]+)?)['\"]", text)
    }
    by_word = {key for key in ENGLISH.texts if key.startswith(_BY_WORD)}
    pages = {key for key in ENGLISH.texts if key.endswith(_ABOUT) and key.removesuffix(_ABOUT) in used}
    assert set(ENGLISH.texts) - by_word - pages - used == set()
    asked = {
        key
        for path, text in sources.items()
        for key in re.findall(
            r"\bt\('([a-z_.]+)'" if path.suffix == ".html" else r"(?:language|\.plain)\(\s*\"([a-z_.]+)\"",
            text,
        )
    }
    assert len(asked) > 100
    assert {key for key in asked if not key.endswith((".", "_"))} - set(ENGLISH.texts) == set()


@pytest.mark.parametrize(
    ("ui_locales", "accepted", "cookie", "code"),
    [
        ("", "", "", "en"),
        ("", "de", "", "de"),
        ("", "de-AT,de;q=0.9,en;q=0.8", "", "de"),
        ("", "en-GB;q=0.4, de-CH;q=0.5", "", "de"),
        ("", "fr, de;q=0.5", "", "de"),
        ("", "de;q=0, en;q=0.1", "", "en"),
        ("", "de;q=x, en;q=0.1", "", "en"),
        ("", "de;q=nan", "", "en"),
        ("", "fr", "", "en"),
        ("", "*", "", "en"),
        ("de", "en", "", "de"),
        ("fr de-DE", "en", "", "de"),
        ("fr", "de", "", "de"),
        ("de", "de", "en", "en"),
        ("en", "en", "de", "de"),
        ("de", "", "xx", "de"),
        ("DE-de", "", "", "de"),
    ],
)
def test_the_switch_is_heard_first_then_the_app_then_the_browser(
    ui_locales: str, accepted: str, cookie: str, code: str
) -> None:
    headers = [("accept-language", accepted)] if accepted else []
    if cookie:
        headers.append(("cookie", f"a=b; {COOKIE}={cookie}"))
    assert language_of(http_request("GET", "/account", headers=headers), ui_locales).code == code


def test_the_cookie_of_a_language_says_nothing_else() -> None:
    assert cookie_of(GERMAN).startswith("__Host-securus-language=de; Path=/; Secure; HttpOnly; SameSite=Lax;")


def test_dates_and_lists_are_written_as_the_language_does() -> None:
    assert ENGLISH.when(1_800_000_000) == "15 January 2027, 08:00 UTC"
    assert GERMAN.when(1_800_000_000) == "15. Januar 2027, 08:00 Uhr UTC"
    assert GERMAN.day(date(2027, 3, 7)) == "7. März 2027"
    assert ENGLISH.listed(["a", "b", "c"]) == "a, b and c"
    assert GERMAN.listed(["a", "b", "c"]) == "a, b und c"
    assert (GERMAN.listed([]), GERMAN.listed(["a"])) == ("", "a")


def test_what_fills_a_text_is_never_read_as_html() -> None:
    said = str(ENGLISH("signed_in_as", person="<b>{x}</b>"))
    assert said == "You are signed in as <strong>&lt;b&gt;{x}&lt;/b&gt;</strong>."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient/*.rs", "Die ganze Gesundheitsakte der gewählten Person ansehen"),
        ("patient/Observation.cruds", "Befunde und Messwerte der gewählten Person ansehen, ergänzen, ändern und löschen"),
        ("user/Condition.r", "Diagnosen und Gesundheitsprobleme (soweit Sie sie selbst sehen dürfen) ansehen"),
        ("patient/Observation.rs?category=http://t.org/c|laboratory",
         "Befunde und Messwerte (nur Laborwerte) der gewählten Person ansehen"),
        ("offline_access", "Verbunden bleiben, wenn Sie nicht da sind, bis Sie es beenden"),
        ("unknown", "unknown"),
    ],
)  # fmt: skip
def test_scopes_in_german(text: str, said: str) -> None:
    assert plain_words(text, GERMAN) == said


_HOSTILE = st.text() | st.integers() | st.none() | st.builds(Markup, st.sampled_from(["<b>ä</b>", "{a}", ""]))


@given(st.data())
def test_every_text_is_filled_as_the_library_fills_it(data: st.DataObject) -> None:
    language = data.draw(st.sampled_from(list(LANGUAGES.values())))
    key = data.draw(st.sampled_from(sorted(language.texts)))
    names = {name for _, name, _, _ in Formatter().parse(language.texts[key]) if name}
    values = {name: data.draw(_HOSTILE) for name in names}
    expected = Markup(language.texts[key]).format(**values)
    for _ in range(2):
        said = language(key, **values)
        assert (said, type(said)) == (expected, Markup)


@given(
    st.lists(st.sampled_from(["{a}", "{{", "}}", "{a:>9}", "{a!r}", "{a.real}", "<i>", "ü &"]), max_size=5),
    _HOSTILE,
)
def test_a_text_of_any_form_is_filled_as_the_library_fills_it(pieces: list[str], value: object) -> None:
    text = "".join(pieces)
    language = Language("xx", "xx", {"key": text})
    try:
        expected = Markup(text).format(a=value)
    except (ValueError, TypeError, AttributeError) as error:
        with pytest.raises(type(error)):
            language("key", a=value)
        return
    assert language("key", a=value) == expected
