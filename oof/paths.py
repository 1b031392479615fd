"""Resolve paths given by users, in options and in dfens.toml."""

from pathlib import Path

from oof.errors import ConfigError


def resolve_path(folder: Path, path: str | Path) -> Path:
    """Return a path given by a user as an absolute path: `~` is the home folder, other paths are relative to `folder`.

    Raises:
        ConfigError: if the home folder is unknown, or the path contains a NUL character.
    """
    if "\0" in str(path):
        raise ConfigError(f"{str(path)!r} is not a valid path: it contains a NUL character.")
    try:
        return folder.absolute() / Path(path).expanduser()
    except RuntimeError as err:  # no such user, or no home folder at all
        raise ConfigError(f"The home folder in {str(path)!r} is unknown. Write the path without '~'.") from err
