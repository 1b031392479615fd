"""Where the official client takes its credentials from, what its process may see, and what must never be shown."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

_KEPT = (
    "HOME PATH LANG LC_ALL LC_CTYPE TMPDIR TZ XDG_CONFIG_HOME PYTHONPATH LD_LIBRARY_PATH "
    "REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR"
).split()
_PROXIES = "http_proxy https_proxy all_proxy no_proxy".split()
_SHORTEST_SECRET = 6
_HIDDEN = "***"
_HEADER = re.compile(r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer)\s+)?[^\s'\",}]+")


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the client's process gets of an environment: credentials, proxies, certificates, and little else.

    VERBOSE stays out, since with it the client prints the Authorization header.
    KAGGLE_API_ENVIRONMENT stays out unless it names the own machine: the client knows no other.
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


def credential_sources(environment: Mapping[str, str]) -> list[str]:
    """Names of the sources that hold credentials, in the order in which the client tries them; never their content."""
    home, folder = _home(environment), _config_dir(environment)
    notebook = environment.get("KAGGLE_API_V1_TOKEN", "") if "KAGGLE_KERNEL_RUN_TYPE" in environment else ""
    sources = [
        ("KAGGLE_API_V1_TOKEN (Kaggle notebook)", bool(notebook) and _filled(Path(notebook))),
        ("KAGGLE_API_TOKEN (environment)", bool(environment.get("KAGGLE_API_TOKEN"))),
        (str(home / ".kaggle" / "access_token"), _filled(home / ".kaggle" / "access_token")),
        (str(home / ".kaggle" / "access_token.txt"), _filled(home / ".kaggle" / "access_token.txt")),
        (
            "KAGGLE_USERNAME and KAGGLE_KEY (environment)",
            bool(environment.get("KAGGLE_USERNAME") and environment.get("KAGGLE_KEY")),
        ),
        (str(folder / "kaggle.json"), _filled(folder / "kaggle.json")),
        (str(home / ".kaggle" / "credentials.json"), _filled(home / ".kaggle" / "credentials.json")),
    ]
    return [name for name, present in sources if present]


def find_secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Every key, token and proxy password that the client may come to hold, longest first."""
    home, folder = _home(environment), _config_dir(environment)
    found = {environment.get("KAGGLE_API_TOKEN", ""), environment.get("KAGGLE_KEY", "")}
    for name in ("access_token", "access_token.txt"):
        found.add(_text(home / ".kaggle" / name).strip())
    token_path = Path(environment.get("KAGGLE_API_TOKEN") or "/")
    if len(str(token_path)) < 1000 and token_path.is_file():
        found.add(_text(token_path).strip())
    users = {environment.get("KAGGLE_USERNAME", "")}
    for path in (folder / "kaggle.json", home / ".kaggle" / "kaggle.json", home / ".kaggle" / "credentials.json"):
        values = _json(path)
        found |= {str(values.get(name) or "") for name in ("key", "access_token", "refresh_token")}
        users.add(str(values.get("username") or ""))
    found |= {base64.b64encode(f"{user}:{key}".encode()).decode() for user in users for key in set(found) if key}
    for name in _PROXIES:
        for variant in (name, name.upper()):
            password = urlsplit(environment.get(variant, "")).password or ""
            found |= {password, unquote(password)}
    return tuple(sorted((text for text in found if len(text) >= _SHORTEST_SECRET), key=len, reverse=True))


def redact(text: str, secrets: Iterable[str]) -> str:
    """A text without the secrets, nor what looks like an Authorization header, a URL's password or its query.

    >>> redact("key abcdef123 at http://me:pw@proxy:80", ["abcdef123"])
    'key *** at http://***@proxy:80'
    """
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    text = re.sub(
        r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer)\s+)?[^\s'\",}]+", rf"\1{_HIDDEN}", text
    )
    text = re.sub(r"(?<=://)[^/\s@]+@", f"{_HIDDEN}@", text)
    return re.sub(r"(?<=/)([^\s?'\"]*)\?[^\s'\")]+", rf"\1?{_HIDDEN}", text)  # addresses that Kaggle signs


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or "~").expanduser()


def _config_dir(environment: Mapping[str, str]) -> Path:
    if environment.get("KAGGLE_CONFIG_DIR"):
        return Path(environment["KAGGLE_CONFIG_DIR"])
    home = _home(environment)
    if (home / ".kaggle").exists():
        return home / ".kaggle"
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _filled(path: Path) -> bool:
    return bool(_text(path).strip())


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(_text(path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
