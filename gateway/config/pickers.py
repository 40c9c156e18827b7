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
        searches_per_minute=section.per_minute("searches", default.searches_per_minute),
        lists_at_once=section.flag("at_once", default.lists_at_once),
    )
