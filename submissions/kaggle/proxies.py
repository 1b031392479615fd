"""The proxy that an environment sets for calls to Kaggle, and what is wrong with its URL."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed

_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_VARIABLE = re.compile(r"(?:https?|all)_proxy", re.IGNORECASE)


def proxy_variables(environment: Mapping[str, str], address: str = "") -> list[str]:
    """Return the names of the variables that set a proxy, if requests to an address go through one.

    Args:
        address: scheme and host, such as `https://storage.googleapis.com`; that of Kaggle by default.

    >>> proxy_variables({"HTTPS_PROXY": "http://proxy:80", "http_proxy": ""})
    ['HTTPS_PROXY']
    >>> proxy_variables({"HTTPS_PROXY": "http://proxy:80", "no_proxy": ".kaggle.com"})
    []
    """
    if not _variable_for(environment, address):
        return []
    return [name for name in environment if _VARIABLE.fullmatch(name) and _is_used(environment, name)]


def _variable_for(environment: Mapping[str, str], address: str) -> str:
    """Return the name of the variable that sets the proxy for an address, or an empty string if there is none."""
    is_local = environment.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST"
    parts = urlsplit(address or ("http://localhost" if is_local else "https://api.kaggle.com"))
    excluded = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if proxy_bypass_environment(parts.netloc, {"no": excluded}):
        return ""
    names = [name for kind in (f"{parts.scheme}_proxy", "all_proxy") for name in (kind, kind.upper())]
    return next((name for name in names if _is_used(environment, name)), "")


def _is_used(environment: Mapping[str, str], name: str) -> bool:
    """Return whether a variable sets a proxy; as in urllib, the lower-case name takes precedence, also if empty."""
    return bool(environment.get(name)) and (name.islower() or name.lower() not in environment)


def find_proxy_problem(environment: Mapping[str, str], address: str = "") -> str:
    """Return what is wrong with the URL of the proxy for an address, with its variable, or an empty string.

    No part of the URL is quoted: if it is not valid, any part may be the password.

    >>> find_proxy_problem({"HTTPS_PROXY": "http://:8080"})
    'HTTPS_PROXY has no host'
    >>> find_proxy_problem({"HTTPS_PROXY": "http://proxy.example:8080"})
    ''
    """
    name = _variable_for(environment, address)
    problem = _problem(environment[name].strip()) if name else ""
    return f"{name} {problem}" if problem else ""


def _problem(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if separator and scheme and scheme.lower() not in _SCHEMES:
        return "has an unknown scheme"
    if re.match(r"\w*:/", url) and not (separator and scheme):
        return "has no host"
    try:
        parts = urlsplit(url if separator else f"http://{url}")
        host, _ = parts.hostname, parts.port
    except ValueError as err:  # its text contains parts of the URL
        is_port = str(err).startswith("Port")
        return "has a port that is not a number from 0 to 65535" if is_port else "is not a valid URL"
    if not host:
        return "has no host"
    return "has a host with a space in it" if re.search(r"\s", host) else ""
