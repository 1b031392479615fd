"""Resolve paths given by users, in options and in dfens.toml."""

from pathlib import Path

from oof.errors import ConfigError


def check_path(path: str | Path) -> None:
    """Refuse a path that no file can have, or that libraries for tables and images cannot open.

    Raises:
        ConfigError: if it contains a NUL character, or bytes that are not UTF-8 (names from an old archive).
    """
    text = str(path)
    if "\0" in text:
        raise ConfigError(f"{text!r:.300} is not a valid path: it contains a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"The path {text!r:.300} is not UTF-8. Rename that file or folder.") from None


def resolve_path(folder: Path, path: str | Path) -> Path:
    """Return a path given by a user as an absolute path: `~` is the home folder, other paths are relative to `folder`.

    Raises:
        ConfigError: if the home folder is unknown, or the path contains a NUL character or is not UTF-8.
    """
    check_path(path)
    try:
        return folder.absolute() / Path(path).expanduser()
    except RuntimeError as err:  # no such user, or no home folder at all
        raise ConfigError(f"The home folder in {str(path)!r} is unknown. Write the path without '~'.") from err
