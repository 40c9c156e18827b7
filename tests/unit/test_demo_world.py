"""The ports of the demonstration and of the tests."""

from gateway.demo.world import free_port


def test_no_port_is_given_twice() -> None:
    given = [free_port() for _ in range(2_000)]
    assert len(set(given)) == len(given)
    assert all(10_000 <= port < 32_000 for port in given)
