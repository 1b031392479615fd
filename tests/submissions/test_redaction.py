"""A secret is redacted in every form in which it can appear."""

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.utils import requote_uri

from submissions.redaction import Redactor

TOKEN = "KGAT_fedcba9876543210fedcba9876543210"
KEY = "0123456789abcdef0123456789abcdef"
PASSWORD = "pa/ss w@rd#1\\'é"

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "stripped": str.strip,
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "repr of an error": lambda text: repr(ValueError(f"Invalid header value {text.encode()!r}")),
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "HTML": html.escape,
    "URL": lambda text: quote(text, safe=""),
    "URL, slashes left": quote,
    "form": quote_plus,
    "URL of requests": requote_uri,
    "HTML of .NET": lambda text: html.escape(text).replace("&#x27;", "&#39;"),
    "JSON of .NET": lambda text: re.sub(r"[^\w \U00010000-\U0010ffff]", lambda sign: f"\\u{ord(sign[0]):04X}", text),
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "URL in small letters": lambda text: (
        quote(text, safe="").lower() if not any(map(str.isupper, text)) else quote(text)
    ),
    "Base64": lambda text: base64.b64encode(text.encode()).decode(),
    "Base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "bearer": lambda text: f"Bearer {text.strip()}",
}
PLACES = (
    "{}",
    "the key {} is wrong",
    "{{'Authorization': '{}'}}",
    "x={}&y=1",
    "failed:{}.",
    "https://host/path?token={}",
    "(Caused by {})",
    "line\n{}\nline",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["{}", "{}\n", "{}\r\n", "\n{}", " {} ", "'{}'", "{}\u200b", "# my token\n{}\n"])
@pytest.mark.parametrize("secret", [TOKEN, KEY, PASSWORD])
def test_no_form_of_a_secret_is_left(secret: str, around: str, form: str) -> None:
    known = around.format(secret)
    redact = Redactor([known]).redact
    for shown in {known, known.strip(), secret}:
        for place in PLACES:
            text = redact(place.format(FORMS[form](shown)))
            for piece in (secret, FORMS[form](secret).strip("'\"= ")):
                assert piece not in text, (place, text)


@settings(max_examples=150)
@given(
    secret=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=6, max_size=40).filter(
        lambda text: len(text.strip()) >= 6
    ),
    form=st.sampled_from(sorted(FORMS)),
    place=st.sampled_from(PLACES),
)
def test_any_text_is_hidden_as_a_secret(secret: str, form: str, place: str) -> None:
    shown = FORMS[form](secret)
    assert shown not in Redactor([secret]).redact(place.format(shown)) or shown.strip("*") == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"another one's token {TOKEN}", "another one's token ***"),
        ("Proxy-Authorization: Basic bWU6cHc=", "Proxy-Authorization: ***"),
        ("http://me:p/w@d@proxy:80/x", "http://***@proxy:80/x"),
        ("postgresql+psycopg://me@h/d?password=HUNTER2", "postgresql+psycopg://***@h/d?***"),
        (
            "connection to host h failed: password=HUNTER2 sslmode=x",
            "connection to host h failed: password=*** sslmode=x",
        ),
        ("what? nothing", "what? nothing"),
        ("5 of 10 ids; run dfens train --fold 2.", "5 of 10 ids; run dfens train --fold 2."),
    ],
)
def test_text_that_looks_secret_is_hidden_without_being_known(text: str, left: str) -> None:
    assert Redactor([]).redact(text) == left


def test_ordinary_words_next_to_a_token_are_kept() -> None:
    redact = Redactor([f"# token for the competition\n{TOKEN}\n"]).redact
    assert redact("the token for Kaggle's competition") == "the token for Kaggle's competition"


@settings(max_examples=1000)
@given(st.text("/:@?)'\" a\n<", max_size=40).map(lambda text: text.replace("a", "ab://")))
def test_urls_are_hidden_as_by_patterns_that_try_every_position(text: str) -> None:
    slow = re.sub(r"(?<=://)[^\s'\"<>]*@", "***@", text)
    slow = re.sub(r"(?<=/)([^\s?'\"]*)\?[^\s'\")]+", r"\1?***", slow)
    assert Redactor([]).redact(text) == slow


@pytest.mark.parametrize(
    "piece", ["/", "://", "?/", "/?", ")", "://@", "/?)", "x=", "password", "bearer ", "\\", "pwd:"]
)
def test_a_long_text_is_redacted_piece_by_piece(piece: str) -> None:
    """Quadratic time would take hours here, instead of about a second."""
    redact = Redactor([KEY]).redact
    assert KEY not in redact(piece * 500_000 + f" {KEY}")
