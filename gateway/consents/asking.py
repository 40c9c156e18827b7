"""The consents of one patient as one caller asks them: what does not hang on the resource is found out once.

Entry after entry of an answer is asked about for the same caller, and who has a thousand provisions is asked as fast as
who has ten: of each likeness of resources one is asked, and of that one the consents that name something of it. Whatever
is kept was said by the consent itself to a resource that it could not tell from this one (`likeness.py`), so that nothing
is decided here. Without a resource, or where its type is not said, every provision that is left is asked, once.

What takes long of many consents is made in steps, each of which says what it took, so that whoever has others to serve
can do it in turns.
"""

from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from gateway.consents.consent import ConsentAnswer, ConsentQuestion, ConsentReading
from gateway.consents.given import Given, Left, Spoken
from gateway.consents.likeness import Likeness, Vocabulary
from gateway.consents.provisions import microseconds
from gateway.consents.resource_facts import ResourceFacts

_MOST_ANSWERS = 512  # likenesses of which it is kept what all consents say together
_MOST_COMMON = 64
Found = TypeVar("Found")
Steps = Generator[int, None, Found]
"""Work in steps: each yields as how many provisions, asked anew, it counts; about 5 us each. It ends with what it found."""
Told = Iterator[tuple[Given, Spoken, int]]
"""Consents with what each says, and how many of its provisions were asked for it."""


def finished(steps: Steps[Found]) -> Found:
    """What steps find, made in one go."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        found: Found = end.value
        return found


class Asking:
    """What is left of consents for a question without a resource. Made by asking_in_steps().

    few      so many consents, provisions, and elements that hang on the resource, are asked each time: a likeness costs
             more
    answers  what was said together, by likeness; None is a question without a resource
    """

    few = 4

    def __init__(
        self,
        left: Sequence[tuple[Given, Left]],
        since: float,
        until: float,
        vocabulary: Vocabulary | None,
        reading: ConsentReading,
    ) -> None:
        self.answers: dict[Likeness | None, ConsentAnswer] = {}
        self._left = left
        self._since = since
        self._until = until
        self._vocabulary = vocabulary
        self._reading = reading
        self._common: dict[Hashable, list[Spoken | None]] = {}

    def is_good(self, now: int) -> bool:
        """Whether it is so at this time, in seconds since 1970."""
        return self._since <= microseconds(now) < self._until

    def likeness(self, facts: ResourceFacts | None) -> Likeness | None:
        """What of the resource makes a difference; None where all provisions are to be asked."""
        if facts is None or self._vocabulary is None:
            return None
        try:
            return self._vocabulary.likeness(facts)
        except ValueError:  # it is nested too deep: whether that matters is for the elements to say
            return None

    def told(self, likeness: Likeness | None, question: ConsentQuestion, now: int) -> Told:
        """What each consent says of a resource of this likeness; all that is left of it is asked where that is None."""
        if likeness is None or self._vocabulary is None:
            return self._plainly(question, now)
        return self._of_likeness(self._vocabulary, likeness, question, now)

    def _plainly(self, question: ConsentQuestion, now: int) -> Told:
        is_kept = question.resource is None
        for one, left in self._left:
            spoken = left.spoken.get(None) if is_kept else None
            asked = 0
            if spoken is None:
                spoken = one.spoken(question, now, self._reading, left.asked)
                asked = 1 + len(left.asked)
                if is_kept:
                    left.keep(None, spoken)
            yield one, spoken, asked

    def _of_likeness(
        self, vocabulary: Vocabulary, likeness: Likeness, question: ConsentQuestion, now: int
    ) -> Told:
        """Those alone are asked whom nobody asked of one like it."""
        own = vocabulary.by_consent(likeness)
        others = self._common.get(likeness.common)
        if others is None:
            if len(self._common) >= _MOST_COMMON:
                self._common.clear()
            others = self._common[likeness.common] = [None] * len(self._left)
        for number, (one, left) in enumerate(self._left):
            key = own.get(number)
            spoken = others[number] if key is None else left.spoken.get(key)
            asked = 0
            if spoken is None:
                kept = (likeness.common,) if key is None else key
                spoken = left.spoken.get(kept)
                if spoken is None:
                    spoken = left.keep(kept, one.spoken(question, now, self._reading, left.asked))
                    asked = 1 + len(left.asked)
                if key is None:
                    others[number] = spoken
            yield one, spoken, asked

    def keep(self, likeness: Likeness | None, answer: ConsentAnswer) -> ConsentAnswer:
        """Keep what all say together of resources of this likeness, or to a question without a resource."""
        if len(self.answers) >= _MOST_ANSWERS:
            self.answers.clear()
        self.answers[likeness] = answer
        return answer


def asking_in_steps(
    given: Iterable[Given], question: ConsentQuestion, now: int, reading: ConsentReading
) -> Steps[Asking]:
    """What is left of consents for a question without a resource, with an index of what they name."""
    since, until = float("-inf"), float("inf")
    own: list[tuple[Given, Left]] = []
    count = named = 0
    for each in given:
        known = each.lefts.get(question)
        left = each.left(question, now, reading)
        since, until = max(since, left.since), min(until, left.until)
        # What says nothing for any resource is no part of an answer, and stands in nobody's place.
        if not left.says_nothing:
            own.append((each, left))
            count += len(left.asked)
            named += sum(len(rest.elements) for _, rest in left.asked)
        yield len(left.asked) // 8 if left is known else 1 + len(each.provisions)
    is_compared = question.type is not None and max(len(own), count, named) > Asking.few
    if not is_compared:
        return Asking(own, since, until, None, reading)
    vocabulary = Vocabulary(reading)
    for number, (_, left) in enumerate(own):
        for element in left.open_elements():
            vocabulary.add(number, element)
        yield len(left.asked) // 2
    return Asking(own, since, until, vocabulary, reading)
