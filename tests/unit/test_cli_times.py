"""--since and --until of verbs that read records."""

from argparse import Namespace

import pytest

from gateway.commands.times import asked_times
from gateway.officer.asking import QuestionError


def asked(at: str, *, since: str = "", until: str = "") -> bool:
    return asked_times(Namespace(since=since, until=until))(at)


@pytest.mark.parametrize(
    ("since", "until", "at", "is_asked"),
    [
        ("", "", "no time", True),
        ("2026-11-01", "", "no time", False),
        ("2026-11-01T08:00Z", "", "2026-11-01T08:00:30.000Z", True),
        ("2026-11-01T08:00Z", "", "2026-11-01T07:59:59.999Z", False),
        ("", "2026-11-01T08:00Z", "2026-11-01T08:00:30.000Z", False),
        ("", "2026-11-01T08:00Z", "2026-11-01T07:59:59.999Z", True),
        ("2026-11-01T09:00+01:00", "", "2026-11-01T08:00:00.000Z", True),
        ("2026-11-01", "2026-11-02", "2026-11-01T23:59:59.999Z", True),
        ("2026-11-01", "2026-11-02", "2026-11-02T00:00:00.000Z", False),
    ],
)
def test_a_record_is_asked_for_by_its_moment(since: str, until: str, at: str, *, is_asked: bool) -> None:
    assert asked(at, since=since, until=until) is is_asked


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(QuestionError, match="since is no time such as 2026-11-01"):
        asked("2026-11-01T00:00:00Z", since="yesterday")
