"""Failures that come again and again: what the log says of them, and how often."""

import logging

import pytest

from gateway.wire.repeated import Repeated


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [
        (record.levelname, vars(record)["count"], vars(record)["cause"])
        for record in caplog.records
        if record.getMessage() == "it fails"
    ]


def test_the_first_is_said_at_once_and_others_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    failure = Repeated("it fails", steady=lambda: now[0])
    failure.tell()
    for number in range(599):
        failure.happened(f"reason {number}")
        now[0] += 0.1
    assert told(caplog) == [("ERROR", 1, "reason 0")]
    now[0] += 0.2
    failure.tell()
    failure.tell()
    assert told(caplog)[1:] == [("ERROR", 598, "reason 598")]


def test_after_a_quiet_minute_it_is_said_at_once_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    failure = Repeated("it fails", steady=lambda: now[0])
    failure.happened("a")
    now[0] += 60.0
    failure.tell()
    failure.happened("b")
    assert told(caplog) == [("ERROR", 1, "a"), ("ERROR", 1, "b")]
