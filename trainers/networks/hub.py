"""Access to the hub of pretrained weights, found out before its client waits and tries again for minutes."""

import re
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError

from oof.errors import TrainingError

_TIMEOUT_S = 10.0


def check_hub(repository: str, remedy: str) -> None:
    """Check that a repository ("timm/resnet18.a1_in1k", "owner/name@revision") can be had.

    Args:
        repository: its name on the hub. remedy: what to do without it, for the message.

    Raises:
        TrainingError: if it is not in the local cache and the hub does not answer.
    """
    reason = "" if _is_cached(repository) else unreachable()
    if reason:
        raise TrainingError(f"{repository!r} could not be fetched from the hub ({reason}). {remedy}")


def unreachable() -> str:
    """Return why the hub does not answer; an empty string if it does."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT_S)
    except Exception as err:  # of requests or httpx, depending on the version of huggingface_hub
        # their texts may contain the passwords of a proxy or of the address
        return f"{urlsplit(constants.ENDPOINT).hostname} cannot be reached ({type(err).__name__})"
    return ""


def without_passwords(text: str) -> str:
    """Return a text without user names and passwords in addresses.

    >>> without_passwords("GET https://me:pw@example.org/a failed")
    'GET https://example.org/a failed'
    """
    return re.sub(r"(?<=://)[^\s'\"<>]*@", "", text)


def _is_cached(repository: str) -> bool:
    name, _, revision = repository.partition("@")
    try:
        huggingface_hub.snapshot_download(name, revision=revision or None, local_files_only=True)
    except (OSError, ValueError, HfHubHTTPError):  # ValueError: not the name of a repository, which the hub tells
        return False
    return True
