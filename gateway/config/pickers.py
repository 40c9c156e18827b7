"""The picker of a mount in gateway.yaml: whether people search its records at the pages, and how much at once."""

from gateway.config.schema import Section
from gateway.settings import PickerSettings


def read_picker(upstream: Section) -> PickerSettings | None:
    """The settings of `picker` in a section of upstreams; None without one."""
    section = upstream.section("picker")
    if section is None:
        return None
    section.known("page", "searches", "at_once")
    if upstream.flag("mtls_only", False):
        upstream.report(
            upstream.place("picker"),
            f"{section.path} cannot be with mtls_only: people come to the pages without a certificate",
        )
    default = PickerSettings()
    return PickerSettings(
        page=section.integer("page", default.page, low=1, high=100),
        searches_per_minute=_searches(section, default.searches_per_minute),
        lists_at_once=section.flag("at_once", default.lists_at_once),
    )


def _searches(section: Section, default: int) -> int:
    text = section.text("searches", f"{default}/min")
    number, slash, unit = text.partition("/")
    if not number.isdigit() or not slash or unit != "min" or not 1 <= int(number) <= 1000:
        said = f"{section.path}.searches is '{text}', expected a number per minute such as {default}/min"
        section.report(section.place("searches"), said)
        return default
    return int(number)
