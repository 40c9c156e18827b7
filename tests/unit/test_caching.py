"""Cache-Control of a response (RFC 9111 5.2)."""

import pytest

from authz.protocol.caching import max_age_of


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("max-age=300", 300),
        ("public, Max-Age=7, must-revalidate", 7),
        ('max-age="60"', 60),
        ("max-age=60, max-age=9000", 60),
        ("no-store, max-age=300", 0),
        ("max-age=300, no-cache", 0),
        ('no-cache="set-cookie"', 0),
        ("s-maxage=300", None),
        ("max-age=-1", None),
        ("max-age=1.5", None),
        ("max-age=99999999999", None),
        ("max-age", None),
        ("max age=3", None),
        ("max-age=3,", None),
    ],
)
def test_RFC9111_5_2_max_age_is_what_the_sender_says(header: str | None, seconds: int | None) -> None:
    assert max_age_of(header) == seconds
