"""`notifications` of gateway.yaml: who is told when a rule says `notify`."""

import re
from collections.abc import Mapping

from gateway.config.schema import Section, node_text
from gateway.settings import Receiver
from gateway.yaml_source import Mapping as YamlMapping
from gateway.yaml_source import Scalar, did_you_mean

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_LOG = "log"


def read_notifications(top: Section) -> Mapping[str, Receiver]:
    """The receivers by name."""
    section = top.section("notifications")
    found: dict[str, Receiver] = {}
    for entry in () if section is None else section.node:
        if section is None or not _NAME.fullmatch(entry.key):
            top.report(
                entry.place, f"'{entry.key}' is no name of a receiver: letters, digits, '.', '_' and '-'"
            )
        elif isinstance(entry.value, YamlMapping):
            found[entry.key] = _receiver(section, entry.key)
        elif isinstance(entry.value, Scalar) and entry.value.value == _LOG:
            found[entry.key] = Receiver()
        else:
            said = node_text(entry.value)
            suggestion = did_you_mean(entry.value.text, (_LOG,)) if isinstance(entry.value, Scalar) else ""
            section.report(
                entry.value.place,
                f"notifications.{entry.key} is {said}, expected log, or {{url: https://…, bearer: {{file: …}}}}."
                + suggestion,
            )
    return found


def _receiver(section: Section, name: str) -> Receiver:
    inner = section.section(name)
    if inner is None:
        return Receiver()
    inner.known("url", "bearer")
    return Receiver(inner.url("url", ("https",)), inner.secret("bearer", required=False))
