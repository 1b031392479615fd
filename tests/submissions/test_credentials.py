"""Credentials in every format that editors, shells and secret stores produce."""

import json
import time
from pathlib import Path

import pytest

from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.kaggle.client_process import CallFailed, ClientProcess
from submissions.kaggle.credentials import find_credentials
from submissions.kaggle.errors import Failure
from submissions.kaggle.proxies import find_proxy_problem, proxy_variables
from tests.support.kaggle_server import KEY, SLUG, TOKEN, USER, KaggleServer
from tests.support.submissions import quick

GOOD = json.dumps({"username": USER, "key": KEY})


def home_with(folder: Path, name: str, data: bytes) -> dict[str, str]:
    (folder / ".kaggle").mkdir(exist_ok=True)
    (folder / ".kaggle" / name).write_bytes(data)
    return {"HOME": str(folder)}


@pytest.mark.parametrize(
    "text", [TOKEN, TOKEN + "\n", TOKEN + "\r\n", "\n" + TOKEN, f"'{TOKEN}'", f'"{TOKEN}"\n', TOKEN + "\u200b"]
)
def test_characters_around_a_token_are_removed(text: str, tmp_path: Path) -> None:
    for environment in (
        {"HOME": str(tmp_path), "KAGGLE_API_TOKEN": text},
        home_with(tmp_path, "access_token", text.encode()),
    ):
        found = find_credentials(environment)
        assert found.used is not None
        assert found.environment["KAGGLE_API_TOKEN"] == TOKEN
        assert TOKEN not in found.redactor.redact(f"{text!r} {text} {TOKEN}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_kaggle_json_is_read_in_any_usual_encoding(encoding: str, tmp_path: Path) -> None:
    found = find_credentials(home_with(tmp_path, "kaggle.json", GOOD.encode(encoding)))
    assert (found.environment["KAGGLE_USERNAME"], found.environment["KAGGLE_KEY"]) == (USER, KEY)
    assert found.problems == []


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("kaggle.json", b'{"competition": "multi-ffdi"}', "it has no username and key"),
        ("kaggle.json", GOOD[:20].encode(), "it is not valid JSON; it may be truncated"),
        ("kaggle.json", b"[]", "it is not a JSON object"),
        ("kaggle.json", b"\xff\x00\xfe", "it is not UTF-8 text"),
        ("kaggle.json", b"[" * 100_000, "it is not valid JSON"),
        ("access_token", f"# my token\n{TOKEN}\n".encode(), "contains a line end or a space"),
        ("access_token", "KGAT_näh".encode(), "characters other than ASCII"),
        ("credentials.json", b'{"access_token": "a"}', "it has no refresh_token"),
    ],
)
def test_unusable_credentials_are_named_at_once(
    name: str, data: bytes, problem: str, tmp_path: Path, kaggle: KaggleServer
) -> None:
    environment = kaggle.environment(tmp_path) | home_with(tmp_path, name, data)
    for variable in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        del environment[variable]
    started = time.process_time()
    with KaggleClient(SLUG, quick(), environment) as client, pytest.raises(KaggleError) as caught:
        client.limits()
    assert f"The credentials in {tmp_path}/.kaggle/{name} cannot be used: " in str(caught.value)
    assert problem in str(caught.value)
    assert "Create a new token on kaggle.com" in str(caught.value)
    assert caught.value.reason.kind == "credentials"
    assert TOKEN not in str(caught.value)
    assert time.process_time() - started < 5
    assert kaggle.calls == []


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".kaggle" / "kaggle.json").mkdir(parents=True)
    found = find_credentials({"HOME": str(tmp_path)})
    assert found.used is None
    assert "it cannot be read (Is a directory)" in found.problems[0]


def test_a_kaggle_json_without_a_key_is_skipped_in_favor_of_an_oauth_login(tmp_path: Path) -> None:
    environment = home_with(tmp_path, "kaggle.json", b'{"competition": "x"}')
    home_with(tmp_path, "credentials.json", b'{"refresh_token": "rrrrrrrrrrrr"}')
    found = find_credentials(environment)
    assert found.used is not None
    assert found.used.kind == "oauth"


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:SEK/RET99@127.0.0.1:9",
        "http://me:SEK%2FRET99@127.0.0.1:9",
        "http://me:SEKRET99",
        "me:SEK#RET99@127.0.0.1:9",
    ],
)
def test_no_part_of_a_proxys_password_is_shown(proxy: str, kaggle: KaggleServer, tmp_path: Path) -> None:
    environment = kaggle.environment(tmp_path, http_proxy=proxy, https_proxy=proxy)
    with KaggleClient(SLUG, quick(retries=0), environment) as client, pytest.raises(KaggleError) as caught:
        client.limits()
    if "@" in proxy:
        for piece in ("RET99", "SEK/RET99", "SEK%2FRET99"):
            assert piece not in str(caught.value)
    assert "http_proxy" in str(caught.value)


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("http://", "has no host"),
        ("http://:8080", "has no host"),
        ("http://user:secret99@", "has no host"),
        ("http://user:secret99@:8080", "has no host"),
        ("://", "has no host"),
        ("http:/proxy:8080", "has no host"),
        (" ", "has no host"),
        ("user:secret99", "has a port that is not a number from 0 to 65535"),
        ("http://proxy:80800", "has a port that is not a number from 0 to 65535"),
        ("htp://proxy:80", "has an unknown scheme"),
        ("http://[::1", "is not a valid URL"),
        ("http://pro xy:80", "has a host with a space in it"),
        ("foo", ""),
        ("proxy:8080", ""),
        ("http://user:secret99@proxy:8080/", ""),
        ("http://[::1]:80", ""),
        ("socks5://127.0.0.1:1080", ""),
        ("", ""),
    ],
)
def test_what_is_wrong_with_a_proxy_is_named_with_its_variable(proxy: str, problem: str) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        assert find_proxy_problem({name: proxy}) == (f"{name} {problem}" if problem else "")
    assert find_proxy_problem({"HTTP_PROXY": proxy}) == ""  # Kaggle is reached by https
    assert find_proxy_problem({"HTTPS_PROXY": proxy, "https_proxy": "proxy:80"}) == ""


@pytest.mark.parametrize(
    ("environment", "address", "names"),
    [
        ({"https_proxy": "p:1", "HTTP_PROXY": "p:1"}, "", ["https_proxy", "HTTP_PROXY"]),
        ({"http_proxy": "p:1"}, "", []),  # Kaggle is reached by https
        ({"all_proxy": "p:1"}, "", ["all_proxy"]),
        ({"https_proxy": "", "HTTPS_PROXY": "p:1"}, "", []),
        ({"HTTPS_PROXY": "p:1", "http_proxy": ""}, "", ["HTTPS_PROXY"]),
        ({"https_proxy": "p:1", "NO_PROXY": "kaggle.com"}, "", []),
        ({"https_proxy": "p:1", "no_proxy": "*"}, "", []),
        ({"https_proxy": "p:1", "no_proxy": ".kaggle.com"}, "https://storage.googleapis.com", ["https_proxy"]),
        ({"https_proxy": "p:1", "no_proxy": "googleapis.com"}, "https://storage.googleapis.com", []),
    ],
)
def test_a_proxy_is_named_only_for_a_host_that_is_reached_through_it(
    environment: dict[str, str], address: str, names: list[str]
) -> None:
    assert proxy_variables(environment, address) == names
    broken = {name: value and "http://:80" for name, value in environment.items() if not name.lower().startswith("no_")}
    problem = find_proxy_problem(environment | broken, address)
    assert problem == (f"{names[0]} has no host" if names else "")


def test_an_unreachable_host_without_a_proxy_is_not_blamed_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise CallFailed(Failure("connection", text="refused", address="http://localhost"))

    monkeypatch.setattr(ClientProcess, "call", fail)
    login = {"KAGGLE_USERNAME": "alice", "KAGGLE_KEY": "0" * 32, "KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    environment = login | {"HOME": str(tmp_path), "http_proxy": "http://:8080", "no_proxy": "localhost"}
    with KaggleClient(SLUG, quick(retries=0), environment) as client, pytest.raises(KaggleError) as caught:
        client.limits()
    assert "Kaggle could not be reached (refused)" in str(caught.value)
    assert "proxy" not in str(caught.value)


def test_an_unusable_proxy_is_an_error_with_a_remedy(kaggle: KaggleServer, tmp_path: Path) -> None:
    """requests raises a TypeError without a word about a proxy for an address of a login alone."""
    environment = kaggle.environment(tmp_path, http_proxy="http://user:secret99@")
    with KaggleClient(SLUG, quick(retries=0), environment) as client, pytest.raises(KaggleError) as caught:
        client.limits()
    assert caught.value.reason.kind == "proxy"
    assert "The proxy cannot be used: http_proxy has no host. Set it to http://HOST:PORT" in str(caught.value)
    assert "secret99" not in str(caught.value)
    assert "TypeError" not in str(caught.value)


def test_a_client_that_ends_the_process_does_not_hang(kaggle: KaggleServer, tmp_path: Path) -> None:
    """site's exit() closes sys.stdin, whose lock is held by a thread that reads it."""
    expired = {
        "refresh_token": "r" * 20,
        "access_token": "a" * 20,
        "access_token_expiration": "2025-01-01T00:00:00+00:00",
    }
    environment = kaggle.environment(tmp_path) | home_with(tmp_path, "credentials.json", json.dumps(expired).encode())
    for variable in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        del environment[variable]
    kaggle.fail("GenerateAccessToken", status=401, message="expired", times=9)
    kaggle.fail("ExchangeOAuthToken", status=401, message="expired", times=9)
    with KaggleClient(SLUG, quick(), environment) as client, pytest.raises(KaggleError) as caught:
        client.limits()
    assert caught.value.reason.kind == "credentials"
    assert "did not respond in time" not in str(caught.value)
