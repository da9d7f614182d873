"""What leaves the house carries no paths, user names or host names."""

import getpass
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PATH = re.compile(r"file://\S+|(?<![\w/:.~<-])~?/(?:[^\s/'\"<>|]+/)+[^\s/'\"<>|,;:)]+")
_PERSONAL_KEYS = re.compile(r"^(user(name)?|host(name)?|node|token|password|secret|api_key)$", re.I)
_COMMON_NAMES = {"root", "user", "localhost", "admin", "ubuntu"}
"""Names that identify nobody and are words besides; they are not searched for in texts."""


def strip_private(value: Any) -> Any:  # noqa: ANN401  (JSON values of any shape)
    """A copy in which paths keep only their last part, and names of user and host are gone."""
    if isinstance(value, Mapping):
        return {
            key: strip_private(item)
            for key, item in value.items()
            if not _PERSONAL_KEYS.match(str(key))
        }
    if isinstance(value, list | tuple):
        return [strip_private(item) for item in value]
    return strip_text(value) if isinstance(value, str) else value


def strip_text(text: str) -> str:
    """The same for one text; addresses of the web stay."""
    text = _PATH.sub(lambda found: Path(found.group().removeprefix("file://")).name, text)
    for name in _names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text


def find_path(text: str) -> str | None:
    """The first path that a text still holds, at least two folders deep."""
    match = _PATH.search(text)
    return match.group() if match else None


def _names() -> list[str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""  # a container without a passwd entry has no name to give away
    names = {user, socket.gethostname()} - _COMMON_NAMES
    return sorted(name for name in names if len(name) > 3)
