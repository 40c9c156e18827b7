"""Policies that ship with the gateway and are chosen by name: what apps of patients reach outside the Patient compartment.

A definitions file says `outside_compartment: us-core` or `strict`, and the file of that name here is loaded beside the
operator's own policies. Its rules are rules like any other: they are explained, audited and overruled by a deny.
"""

from importlib.resources import files

PRESETS = ("us-core", "strict")


def text_of(name: str) -> str:
    """The policy file of a preset."""
    return (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")


def shipped_name(name: str) -> str:
    """How the file of a preset is named in problems and explanations.

    It has no tests of its own: a deny of the operator's could make them fail. The gateway's tests hold it.
    """
    return f"{name}.yaml of the gateway"
