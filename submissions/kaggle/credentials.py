"""Find the credentials that the official client would use, check them, and collect the secrets to hide."""

import base64
import codecs
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from submissions.redaction import Redactor

_KEPT = (
    "HOME PATH LANG LC_ALL LC_CTYPE TMPDIR TZ XDG_CONFIG_HOME PYTHONPATH LD_LIBRARY_PATH "
    "REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR"
).split()
_PROXIES = "http_proxy https_proxy all_proxy no_proxy".split()
_INVISIBLE = " \t\r\n\v\f\ufeff\u200b\u200c\u200d\u2060\u00a0"


@dataclass(frozen=True)
class Source:
    """A source of credentials.

    name: name to display, never the content. kind: token, key (user name and key) or oauth.
    problem: why it cannot be used, or empty.
    variables: environment variables for the client, without surrounding whitespace.
    """

    name: str
    kind: Literal["token", "key", "oauth"]
    problem: str = ""
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Credentials:
    """The credentials in an environment.

    sources: in the order in which the client tries them. used: the source that the client uses, or None.
    environment: the complete environment of the client's process. redactor: hides every secret that was found.
    """

    sources: tuple[Source, ...]
    used: Source | None
    environment: Mapping[str, str] = field(repr=False)
    redactor: Redactor

    @property
    def problems(self) -> list[str]:
        """Return one sentence for each source that cannot be used."""
        return [
            f"The credentials in {item.name} cannot be used: {item.problem}." for item in self.sources if item.problem
        ]


def find_credentials(environment: Mapping[str, str]) -> Credentials:
    """Search for credentials as the official client does, and check those that it would use.

    An unusable token ends the search, as in the client; a kaggle.json without a key is skipped.
    """
    sources = tuple(_sources(environment))
    used = None
    for source in sources:
        if not source.problem:
            used = source
        if used or source.kind == "token":
            break
    child = child_environment(environment)
    for name, value in used.variables if used else ():
        child[name] = value
    return Credentials(sources, used, child, Redactor(find_secrets(environment)))


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the client's process: credentials, proxies, certificates and little else.

    VERBOSE is not passed, since it makes the client print the Authorization header.
    KAGGLE_API_ENVIRONMENT is passed only if it refers to this machine, since the client supports no other.
    """
    found = {name: environment[name] for name in _KEPT if name in environment}
    for name in _PROXIES:
        found |= {variant: environment[variant] for variant in (name, name.upper()) if variant in environment}
    for name, value in environment.items():
        if name.startswith("KAGGLE_") and name != "KAGGLE_COMPETITION_SUBMISSION_MODEL_VERSION_ID":
            found[name] = value
    if found.get("KAGGLE_API_ENVIRONMENT") != "LOCALHOST":
        found.pop("KAGGLE_API_ENVIRONMENT", None)
    return found


# ---- sources ----------------------------------------------------------------


def _sources(environment: Mapping[str, str]) -> Iterator[Source]:
    home, folder = _home(environment), _config_dir(environment)
    if "KAGGLE_KERNEL_RUN_TYPE" in environment and environment.get("KAGGLE_API_V1_TOKEN"):
        yield from _token_file(Path(environment["KAGGLE_API_V1_TOKEN"]), "KAGGLE_API_V1_TOKEN (Kaggle notebook)", ())
    token = environment.get("KAGGLE_API_TOKEN", "")
    if _clean(token):
        path = _as_file(token)
        yield from (
            [_token(token, "KAGGLE_API_TOKEN (environment)")]
            if path is None
            else _token_file(path, f"{path} (KAGGLE_API_TOKEN)")
        )
    for name in ("access_token", "access_token.txt"):
        yield from _token_file(home / ".kaggle" / name)
    user, key = environment.get("KAGGLE_USERNAME", ""), environment.get("KAGGLE_KEY", "")
    if _clean(user) and _clean(key):
        yield _key(user, key, "KAGGLE_USERNAME and KAGGLE_KEY (environment)")
    yield from _key_file(folder / "kaggle.json")
    yield from _oauth_file(home / ".kaggle" / "credentials.json")


def _token(text: str, name: str, variable: str = "KAGGLE_API_TOKEN") -> Source:
    token = _clean(text)
    return Source(name, "token", _problem(token, "the token"), ((variable, token),))


def _token_file(path: Path, name: str = "", variables: tuple[tuple[str, str], ...] | None = None) -> Iterator[Source]:
    text, problem = _read(path)
    if problem:
        yield Source(name or str(path), "token", problem)
    elif _clean(text):
        found = _token(text, name or str(path))
        yield found if variables is None else Source(found.name, "token", found.problem, variables)


def _key(user: str, key: str, name: str) -> Source:
    user, key = _clean(user), _clean(key)
    problem = _problem(user, "the user name") or _problem(key, "the key")
    return Source(name, "key", problem, (("KAGGLE_USERNAME", user), ("KAGGLE_KEY", key)))


def _key_file(path: Path) -> Iterator[Source]:
    text, problem = _read(path)
    if problem or not text.strip():
        if problem:
            yield Source(str(path), "key", problem)
        return
    values, problem = _object(text)
    user, key = values.get("username"), values.get("key")
    if problem:
        yield Source(str(path), "key", problem)
    elif isinstance(user, str) and isinstance(key, str) and _clean(user) and _clean(key):
        yield _key(user, key, str(path))
    else:
        yield Source(str(path), "key", "it has no username and key")


def _oauth_file(path: Path) -> Iterator[Source]:
    text, problem = _read(path)
    if not problem and text.strip():
        values, problem = _object(text)
        if not problem and not values.get("refresh_token"):
            problem = "it has no refresh_token (kaggle auth login creates a new one)"
    elif not problem:
        return
    yield Source(str(path), "oauth", problem)


def _problem(text: str, what: str) -> str:
    """Return what is wrong with a token or key to be sent in an HTTP header, or an empty string."""
    if not text:
        return f"{what} is empty"
    if re.search(r"\s", text):
        return f"{what} contains a line end or a space; expected a single word"
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        return f"{what} contains characters other than ASCII, which may be invisible; copy it again"
    return ""


def _clean(text: str) -> str:
    """Return a token or key without what editors, shells and secret stores add around it."""
    text = text.strip(_INVISIBLE)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip(_INVISIBLE)
    return text


def _as_file(token: str) -> Path | None:
    try:
        path = Path(_clean(token))
        return path if path.is_file() else None
    except (OSError, ValueError):  # too long for a file name, or with NUL: a token
        return None


def _read(path: Path) -> tuple[str, str]:
    """Return the text of a file in any usual encoding, and why it cannot be read; both empty if there is no file."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe may never be written
            return "", "it is not a regular file"
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    except (OSError, ValueError) as err:
        return "", f"it cannot be read ({getattr(err, 'strerror', None) or err})"
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding), ""
    except UnicodeDecodeError:
        return "", "it is not UTF-8 text"


def _object(text: str) -> tuple[dict[str, object], str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}, "it is not valid JSON; it may be truncated"
    return (found, "") if isinstance(found, dict) else ({}, "it is not a JSON object with username and key")


# ---- secrets ----------------------------------------------------------------


def find_secrets(environment: Mapping[str, str]) -> set[str]:
    """Return every key, token and proxy password available to the client, in plain form."""
    home, folder = _home(environment), _config_dir(environment)
    keys = {environment.get(name, "") for name in ("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN", "KAGGLE_KEY")}
    users = {environment.get("KAGGLE_USERNAME", "")}
    files = [home / ".kaggle" / name for name in ("access_token", "access_token.txt")]
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN"):
        path = _as_file(environment.get(name, ""))
        files += [] if path is None else [path]
    keys |= {_read(path)[0] for path in files}
    for path in (folder / "kaggle.json", home / ".kaggle" / "kaggle.json", home / ".kaggle" / "credentials.json"):
        text = _read(path)[0]
        values = _object(text)[0]
        keys |= {str(values.get(name) or "") for name in ("key", "access_token", "refresh_token")}
        # a truncated file is not JSON but still contains the key
        keys |= set(re.findall(r'"(?:key|access_token|refresh_token)"\s*:\s*"([^"]*)', text))
        users.add(str(values.get("username") or ""))
    for key in [key for key in keys if _clean(key)]:
        keys.add(_clean(key))
        keys |= {base64.b64encode(f"{user}:{item}".encode()).decode() for user in users for item in (key, _clean(key))}
    for name in _PROXIES:
        for variant in (name, name.upper()):
            keys |= _proxy_secrets(environment.get(variant, ""))
    return {key for key in keys if key.strip()}


def _proxy_secrets(address: str) -> set[str]:
    """Return the password in a proxy URL, also if it contains characters that would end the URL."""
    login = address.rpartition("@")[0].rpartition("://")[2]
    user, _, password = login.partition(":")
    if not password:
        return set()
    plain = unquote(password)
    basic = base64.b64encode(f"{unquote(user)}:{plain}".encode()).decode()
    return {password, plain, basic, *re.split(r"[/?#@:]", password), *re.split(r"[/?#@:]", plain)}


def _home(environment: Mapping[str, str]) -> Path:
    if environment.get("HOME"):
        return Path(environment["HOME"])
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry in the user database
        return Path(os.sep)


def _config_dir(environment: Mapping[str, str]) -> Path:
    if environment.get("KAGGLE_CONFIG_DIR"):
        return Path(environment["KAGGLE_CONFIG_DIR"])
    home = _home(environment)
    if (home / ".kaggle").exists():
        return home / ".kaggle"
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
