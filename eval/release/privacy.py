"""What leaves the house carries no paths, user names, host names or secrets."""

import getpass
import re
import socket
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

_PATH = re.compile(r"file://\S+|(?<![\w/:.~<-])~?/(?:[^\s/'\"<>|]+/)+[^\s/'\"<>|,;:)]+")
_WINDOWS_PATH = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\s\\'\"<>|]+\\)+[^\s\\'\"<>|,;:)]+")
_PERSONAL_KEYS = re.compile(
    r"^(user(name)?|login|e?mail|account|host(name)?|node(name|list)?|"
    r"(.*_)?(token|password|passwd|secret|secret_key|access_key|api_key|credentials))$",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{20,}|"
    r"(?<=://)[^\s/@]+:[^\s/@]+@|(?i:(?<=[?&])[\w-]*(?:signature|token|key|secret)=)[^&\s'\"]+"
)
"""Tokens of the usual services, a password in an address, a signature behind one."""
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w")
_COMMON_NAMES = {"root", "user", "localhost", "admin", "ubuntu"}
"""Names that identify nobody and are words besides; they are not searched for in texts."""
_SEARCHED = (".json", ".md", ".txt")
_VOCABULARY = "tokenizer.json"
"""Is made of the corpus's own words and holds no path of ours."""


def strip_private(value: Any) -> Any:  # noqa: ANN401  (JSON values of any shape)
    """A copy in which paths keep only their last part; names and secrets are gone."""
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
    text = _SECRETS.sub("…", text)
    text = _PATH.sub(lambda found: Path(found.group().removeprefix("file://")).name, text)
    text = _WINDOWS_PATH.sub(lambda found: PureWindowsPath(found.group()).name, text)
    text = _EMAIL.sub("…", text)
    for name in _names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
    return text


def find_path(text: str) -> str | None:
    """The first path that a text still holds, at least two folders deep."""
    match = _PATH.search(text) or _WINDOWS_PATH.search(text)
    return match.group() if match else None


def refuse_private(folder: Path) -> None:
    """Search all texts of a folder for what must not leave the house.

    Raises:
        ValueError: Names the file; a secret or a name is not repeated.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix not in _SEARCHED or path.name == _VOCABULARY:
            continue
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(folder)
        if found := find_path(text):
            raise ValueError(f"{where} would give away {found!r}")
        if _SECRETS.search(text):
            raise ValueError(f"{where} would give away what looks like a password or a token")
        if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in _names()):
            raise ValueError(f"{where} would give away the name of this user or host")


def _names() -> list[str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""  # a container without a passwd entry has no name to give away
    host = socket.gethostname()
    names = {user, host, host.partition(".")[0]} - _COMMON_NAMES
    return sorted((name for name in names if len(name) > 3), key=len, reverse=True)
