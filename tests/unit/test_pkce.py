"""Proof Key for Code Exchange: S256 and no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.protocol.errors import ErrorCode, OAuthError
from authz.protocol.pkce import check_challenge, verify

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636 appendix B
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_example_of_RFC_7636_is_accepted() -> None:
    assert check_challenge(CHALLENGE, "S256") == CHALLENGE
    verify(VERIFIER, CHALLENGE)


@pytest.mark.parametrize(
    ("challenge", "method"),
    [
        (None, None),
        (None, "S256"),
        (CHALLENGE, None),  # RFC 7636 4.3: no method means plain
        (CHALLENGE, "plain"),
        (CHALLENGE, "s256"),
        (CHALLENGE[:-1], "S256"),
        (CHALLENGE + "A", "S256"),
        (CHALLENGE + "=", "S256"),
        (CHALLENGE + "\n", "S256"),
        (CHALLENGE[:-1] + "+", "S256"),
        (CHALLENGE[:-1] + "é", "S256"),
        ("", "S256"),
    ],
)
def test_other_challenges_are_invalid_request(challenge: str | None, method: str | None) -> None:
    with pytest.raises(OAuthError) as caught:
        check_challenge(challenge, method)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "verifier",
    [
        None,
        "",
        CHALLENGE,
        VERIFIER[:-1],
        VERIFIER + "A",
        "A" * 42,
        "A" * 129,
        VERIFIER + "\n",
        VERIFIER[:-1] + "é",
    ],
)
def test_other_verifiers_are_invalid_grant(verifier: str | None) -> None:
    with pytest.raises(OAuthError) as caught:
        verify(verifier, CHALLENGE)
    assert caught.value.code is ErrorCode.INVALID_GRANT


@given(st.text(max_size=140))
def test_hostile_verifiers_raise_nothing_but_OAuthError(verifier: str) -> None:
    with pytest.raises(OAuthError):
        verify(verifier, CHALLENGE)
