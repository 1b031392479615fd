"""Remove secrets from texts, in every form in which they may appear."""

import base64
import html
import json
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

HIDDEN = "***"
_SHORTEST = 4  # shorter pieces of a secret occur in ordinary words
_SHORTEST_WORD = 8
# characters left unescaped in URLs: none, by Python's quote, by requests and urllib3
_LEFT_IN_URLS = ("", "/", "!$&'()*+,;=", "!$&'()*+,;=:@", "!#$%&'()*+,/:;=?@[]~", "!$&'()*+,;=:@/?")
_WORD = re.compile(rf"[\w.~+/=-]{{{_SHORTEST_WORD},}}")


def _hide_login(part: re.Match[str]) -> str:
    """Hide what is before the last @ of a URL, in a part of a text without spaces and quotes.

    As one pattern with a lookbehind, it would be tried at each `://` up to the end of the part, which takes quadratic
    time; so would the pattern of queries at each slash.
    """
    head, mark, rest = part[0].partition("://")
    _, at, host = rest.rpartition("@")
    return f"{head}{mark}{HIDDEN}@{host}" if at else part[0]


# patterns of secrets in general: headers, Kaggle tokens, passwords in URLs and queries
_PATTERNS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(
            r"(?i)((?:proxy-)?authorization\\?['\"]?\s*[:=]\s*(?:b?\\?['\"])?)(?:(?:basic|bearer)\s+)?[^\s'\",}\\]+"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(basic|bearer)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"KGAT_\w{6,}"), HIDDEN),
    (re.compile(r"[^\s'\"<>]+"), _hide_login),
    (
        re.compile(
            r"(?i)\b((?:\w*password|passwd|pwd|secret|api_?key|access_token|refresh_token)['\"]?\s*[=:]\s*['\"]?)[^\s'\"&,}]+"
        ),
        rf"\1{HIDDEN}",
    ),
)
_QUERY = re.compile(r"[^\s'\")]+")


class Redactor:
    """Removes known secrets from texts.

    Args:
        secrets: keys, tokens and passwords; surrounding whitespace and line ends are ignored.

    >>> Redactor(["pass word"]).redact("login pass%20word failed at http://me:pw@proxy:80")
    'login *** failed at http://***@proxy:80'
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found: set[str] = set()
        for secret in secrets:
            found |= secret_forms(secret)
        self.forms = tuple(sorted(found, key=lambda form: (-len(form), form)))

    def redact(self, text: str) -> str:
        """Return the text without the secrets and without anything that looks like one."""
        for form in self.forms:
            text = text.replace(form, HIDDEN)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return _hide_queries(text)


def _hide_queries(text: str) -> str:
    """Hide what follows a question mark after a slash, as in URLs signed by Kaggle."""
    parts, start = [], 0
    while (mark := text.find("?", start)) >= 0:
        before = re.split(r"[\s'\"]", text[max(0, start - 1) : mark])[-1]  # with the end of a query just hidden
        query = _QUERY.match(text, mark + 1) if "/" in before else None
        parts.append(text[start : mark + 1])
        start = mark + 1
        if query:
            parts.append(HIDDEN)
            start = query.end()
    return "".join([*parts, text[start:]])


def secret_forms(secret: str) -> set[str]:
    """Return every form in which a secret may appear: stripped, its lines and words, escaped, encoded."""
    pieces = {secret, secret.strip(), secret.strip("\ufeff\u200b \t\r\n'\""), *secret.splitlines()}
    pieces |= {line.strip() for line in secret.splitlines()}
    # a word of a secret is secret too, unless it may be an ordinary word
    pieces |= {word for word in _WORD.findall(secret) if re.search(r"[\d_]", word) or len(word) >= 16}
    forms: set[str] = set()
    for piece in pieces:
        if len(piece.strip()) >= _SHORTEST:
            forms |= _encoded(piece)
    return {form for form in forms if len(form.strip()) >= _SHORTEST}


def _encoded(text: str) -> set[str]:
    """Return a text as it appears in Python, JSON, HTML, a URL or an HTTP header."""
    data = text.encode("utf-8", "surrogateescape")
    found = {text}
    for _ in range(2):  # an error quoted in another error is escaped twice
        found |= {escaped for form in found for escaped in _escaped(form)}
    for coded in (*(quote(data, safe=kept) for kept in _LEFT_IN_URLS), quote_plus(data)):
        found |= {coded, re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), coded)}
    found |= {base64.b64encode(data).decode().rstrip("="), base64.urlsafe_b64encode(data).decode().rstrip("=")}
    return found


def _escaped(text: str) -> set[str]:
    shown_bytes = repr(text.encode("utf-8", "surrogateescape"))[2:-1]
    escaped = text.encode("unicode_escape").decode()
    as_json = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    found = {repr(text)[1:-1], ascii(text)[1:-1], shown_bytes, escaped, html.escape(text), *as_json}
    # numeric escapes in HTML and JSON, as .NET writes them, on which Kaggle runs; escaped slashes as in PHP
    found |= {html.escape(text).replace("&#x27;", "&#39;"), text.replace("/", "\\/")}
    by_numbers = re.sub(r"[^\w \U00010000-\U0010ffff]", lambda sign: f"\\u{ord(sign[0]):04x}", text)
    found |= {by_numbers, re.sub(r"\\u[0-9a-f]{4}", lambda code: rf"\u{code[0][2:].upper()}", by_numbers)}
    # which quotes repr() escapes depends on the rest of the text
    return found | {form.replace("'", "\\'") for form in found}
