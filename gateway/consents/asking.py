"""The consents of one patient as one caller asks them: what does not hang on the resource is found out once.

Entry after entry of an answer is asked about for the same caller, and who has a thousand provisions is asked as fast as
who has ten: of each likeness of resources one is asked, and of that one the consents that name something of it. Whatever
is kept was said by the consent itself to a resource that it could not tell from this one (`likeness.py`), so that nothing
is decided here. Without a resource, or where its type is not said, every provision that is left is asked.
"""

from collections.abc import Hashable, Iterator, Sequence

from gateway.consents.consent import ConsentAnswer, ConsentQuestion, ConsentReading
from gateway.consents.given import Given, Left, Spoken
from gateway.consents.likeness import Likeness, Vocabulary
from gateway.consents.provisions import microseconds
from gateway.consents.resource_facts import ResourceFacts

_MOST_ANSWERS = 512  # likenesses of which it is kept what all consents say together
_MOST_COMMON = 64


class Asking:
    """What is left of consents for a question without a resource.

    few  so many provisions, and elements that hang on the resource, are asked each time: a likeness costs more
    """

    few = 4

    def __init__(
        self, given: Sequence[Given], question: ConsentQuestion, now: int, reading: ConsentReading
    ) -> None:
        self.answers: dict[Likeness, ConsentAnswer] = {}
        self._reading = reading
        all_left = [(each, each.left(question, now, reading)) for each in given]
        self._since = max((left.since for _, left in all_left), default=float("-inf"))
        self._until = min((left.until for _, left in all_left), default=float("inf"))
        # What says nothing for any resource is no part of an answer, and stands in nobody's place.
        self._left: list[tuple[Given, Left]] = [pair for pair in all_left if not pair[1].says_nothing]
        named = [(number, e) for number, (_, left) in enumerate(self._left) for e in left.open_elements()]
        count = sum(len(left.asked) for _, left in self._left)
        self._is_compared = question.type is not None and max(count, len(named)) > self.few
        self._vocabulary = Vocabulary(named if self._is_compared else (), reading)
        self._common: dict[Hashable, list[Spoken | None]] = {}

    def is_good(self, now: int) -> bool:
        """Whether it is so at this time, in seconds since 1970."""
        return self._since <= microseconds(now) < self._until

    def likeness(self, facts: ResourceFacts | None) -> Likeness | None:
        """What of the resource makes a difference; None where all provisions are to be asked."""
        if facts is None or not self._is_compared:
            return None
        try:
            return self._vocabulary.likeness(facts)
        except ValueError:  # it is nested too deep: whether that matters is for the elements to say
            return None

    def plainly(self, question: ConsentQuestion, now: int) -> Iterator[tuple[Given, Spoken]]:
        """What each consent says, asked for all that is left of it."""
        for one, left in self._left:
            yield one, one.spoken(question, now, self._reading, left.asked)

    def told(self, likeness: Likeness, question: ConsentQuestion, now: int) -> Iterator[tuple[Given, Spoken]]:
        """The same of a resource of this likeness: those alone are asked whom nobody asked of one like it."""
        own = self._vocabulary.by_consent(likeness)
        others = self._common.get(likeness.common)
        if others is None:
            if len(self._common) >= _MOST_COMMON:
                self._common.clear()
            others = self._common[likeness.common] = [None] * len(self._left)
        for number, (one, left) in enumerate(self._left):
            key = own.get(number)
            spoken = others[number] if key is None else left.spoken.get(key)
            if spoken is None:
                kept = (likeness.common,) if key is None else key
                spoken = left.spoken.get(kept)
                if spoken is None:
                    spoken = left.keep(kept, one.spoken(question, now, self._reading, left.asked))
                if key is None:
                    others[number] = spoken
            yield one, spoken

    def keep(self, likeness: Likeness, answer: ConsentAnswer) -> ConsentAnswer:
        """Keep what all say together of resources of this likeness."""
        if len(self.answers) >= _MOST_ANSWERS:
            self.answers.clear()
        self.answers[likeness] = answer
        return answer
