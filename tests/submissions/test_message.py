"""Messages filled in from a template."""

import pytest

import submissions.message
from oof.errors import ConfigError
from submissions.message import LONGEST, check_template, make_message

FIELDS = {"blend": "b7", "score": 0.98765432, "nested_score": 0.98, "members": 3, "public": None}


def test_the_default_template_is_filled() -> None:
    text = make_message("{blend} oof={score:.5f} nested={nested_score:.5f}", FIELDS)
    assert text == "b7 oof=0.98765 nested=0.98000"


def test_characters_that_cannot_be_shown_are_refused() -> None:
    for text in ("a\udce9", "a\0b", "\x1b[2J"):
        with pytest.raises(ConfigError, match="characters that cannot be displayed"):
            make_message(text, {})


def test_braces_and_plain_text_are_kept_and_lines_are_joined() -> None:
    assert make_message("{{a}}\n{members}  x", FIELDS) == "{a} 3 x"


def test_a_field_without_a_value_is_reported() -> None:
    assert make_message("lb={public:.5f} cv={score:.2f}", FIELDS | {"score": float("nan")}) == "lb=n/a cv=n/a"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{nested}", r"unknown field \{nested\}; did you mean nested_score\? Known: blend, members"),
        ("{xyz}", r"unknown field \{xyz\}. Known"),
        ("{blend.__class__}", "unknown field"),
        ("{blend[0]}", "unknown field"),
        ("{}", "unknown field"),
        ("{blend!r}", "may have a format such as"),
        ("{score:{members}}", "may have a format such as"),
        ("{blend:.5f}", "does not fit its value 'b7'"),
        ("{blend", "not a valid template"),
        (" \n", "is empty when filled in"),
        ("{score:9999999.5f}", "may have a format such as"),
        ("x" * (LONGEST + 1), "has 501 characters; the maximum is 500"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_message(template, FIELDS)


def test_a_template_is_checked_before_there_are_values() -> None:
    check_template(" ".join(f"{{{name}}}" for name in submissions.message.FIELDS))
    with pytest.raises(ConfigError, match="does not fit its value"):
        check_template("{members:.5f}")
