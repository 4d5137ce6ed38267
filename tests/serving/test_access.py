"""Who may connect, and how often."""

from pathlib import Path

import pytest

from video2act.config import ConnectionLimits
from video2act.serving.access import Rate, check_bind, is_loopback, load_api_key, refusal


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_key(host: str):
    assert is_loopback(host)
    check_bind(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.5", "robot.local"])
def test_a_public_address_needs_one(host: str):
    with pytest.raises(ValueError, match=r"can be reached from other machines.*--api-key-file or VIDEO2ACT_API_KEY"):
        check_bind(host, None)
    check_bind(host, "secret")


def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VIDEO2ACT_API_KEY", raising=False)
    assert load_api_key(None) is None
    monkeypatch.setenv("VIDEO2ACT_API_KEY", "from-environment")
    assert load_api_key(None) == "from-environment"
    (tmp_path / "key").write_text("from-file\n")
    assert load_api_key(tmp_path / "key") == "from-file"


@pytest.mark.parametrize("key", ["", " \n", "two words", "schlüssel", "a\tb"])
def test_a_key_that_no_header_can_hold_is_refused(tmp_path: Path, key: str):
    (tmp_path / "key").write_text(key)
    with pytest.raises(ValueError, match="holds no usable API key"):
        load_api_key(tmp_path / "key")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "an API key is needed: send the header 'Authorization: Api-Key <key>'\n"),
        ([""], "the API key is wrong\n"),
        (["secret"], "the API key is wrong\n"),
        (["Api-Key secre"], "the API key is wrong\n"),
        (["Api-Key secrets"], "the API key is wrong\n"),
        (["Api-Key geheim\xfc"], "the API key is wrong\n"),
        ([b"Api-Key \xff".decode("ascii", "surrogateescape")], "the API key is wrong\n"),
        (["Api-Key secret"], None),
        (
            ["Api-Key secret", "Api-Key secret"],
            "an API key is needed: send the header 'Authorization: Api-Key <key>', once; got 2\n",
        ),
    ],
)
def test_only_the_whole_key_once_lets_in(headers: list[str], reason: str | None):
    assert refusal("secret", headers) == reason
    assert refusal(None, headers) is None


def test_an_allowance_fills_up_again(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    rate = Rate(10.0)
    assert [rate.is_exceeded() for _ in range(12)] == [False] * 10 + [True] * 2
    now[0] = 0.25
    assert [rate.is_exceeded() for _ in range(4)] == [False, False, True, True]
    now[0] = 100.0
    assert sum(rate.is_exceeded() for _ in range(20)) == 10


def test_limits_are_positive():
    with pytest.raises(ValueError, match="max_clients must be at least 1, got 0"):
        ConnectionLimits(max_clients=0)
