"""Which sections and entries of a clinical document a rule lets be shown."""

from collections.abc import Collection
from dataclasses import dataclass

from gateway.fhir.labels import Label, LabelCondition


@dataclass(frozen=True, slots=True)
class SectionCondition:
    """Which sections and entries are shown: those whose labels are as asked and whose code is none of these.

    codes are of sections, as labels of 'urn:oid:…' systems.
    """

    labels: LabelCondition
    codes: frozenset[Label] = frozenset()

    @property
    def text(self) -> str:
        """The condition as text, the same in every process."""
        wanted, without = self.labels, sorted((each.system, each.code) for each in self.labels.without)
        return (
            f"{wanted.at_most} {wanted.unlabelled} {without} {sorted((c.system, c.code) for c in self.codes)}"
        )

    def shows(self, labels: frozenset[Label], codes: Collection[Label]) -> bool:
        """Whether something with these labels is shown; codes are those of its section, translations among them."""
        return self.codes.isdisjoint(codes) and self.labels.holds_for(labels)
