"""The proxy that an environment sets for calls to Kaggle, and what is wrong with its URL."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_VARIABLE = re.compile(r"(?:https?|all)_proxy", re.IGNORECASE)


def proxy_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables that set a proxy."""
    return [name for name in environment if _VARIABLE.fullmatch(name)]


def find_proxy_problem(environment: Mapping[str, str]) -> str:
    """Return what is wrong with the URL of the proxy for Kaggle, with its variable, or an empty string.

    No part of the URL is quoted: if it is not valid, any part may be the password.

    >>> find_proxy_problem({"HTTPS_PROXY": "http://:8080"})
    'HTTPS_PROXY has no host'
    >>> find_proxy_problem({"HTTPS_PROXY": "http://proxy.example:8080"})
    ''
    """
    scheme = "http" if environment.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST" else "https"
    for kind in (f"{scheme}_proxy", "all_proxy"):
        # as in urllib: the lower-case name takes precedence, also if it is empty
        name = kind if kind in environment else kind.upper()
        if environment.get(name):
            problem = _problem(environment[name].strip())
            return f"{name} {problem}" if problem else ""
    return ""


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
