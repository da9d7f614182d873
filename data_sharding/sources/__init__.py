"""Raw corpora in, records out: manifests, folders of same-named files, foreign WebDataset tars.

Streaming and in a fixed order; texts come in place, media by reference, bad rows as rejections.
Must not know what becomes of the rows: nothing here decodes, checks or writes a sample.
"""

import os

from data_sharding.sources.config import Source, SourceConfig
from data_sharding.sources.folder import FolderSource
from data_sharding.sources.manifest import MANIFEST_NAMES, READERS, ManifestSource
from data_sharding.sources.tars import TarsSource
from data_sharding.storage import exists, is_folder, is_remote, join, list_files

__all__ = ["FolderSource", "ManifestSource", "Source", "SourceConfig", "TarsSource", "open_source"]


def open_source(location: str, config: SourceConfig) -> Source:
    """Opens a corpus and checks what can be checked before work starts.

    Args:
        location: A manifest file, a folder, a tar, or a pattern such as ``x-{000..010}.tar``;
            local or a URL.
        config: Layout and columns.

    Raises:
        ValueError: It is no such corpus; the message says what was found.
    """
    if not is_remote(location):
        location = os.path.abspath(location)
    location = location.rstrip("/") or "/"
    try:
        layout = config.layout if config.layout != "auto" else _find_layout(location)
        if layout == "folder":
            return FolderSource(location, config)
        if layout == "tars":
            return TarsSource(location, config)
        return ManifestSource(_find_manifest(location), config)
    except OSError as error:
        raise ValueError(f"{location} cannot be read: {error}") from error


def _find_layout(location: str) -> str:
    """What a location looks like by its name, then by its files."""
    lower = location.lower()
    if "{" in location or (lower.endswith(".tar") and not is_folder(location)):
        return "tars"
    if lower.endswith(tuple(READERS)):
        return "manifest"
    if not is_folder(location):
        if not exists(location):
            raise ValueError(f"{location}: no such corpus, neither a file nor a folder")
        return "manifest"
    if any(exists(join(location, name)) for name in MANIFEST_NAMES):
        return "manifest"
    return "tars" if next(list_files(location, (".tar",)), None) else "folder"


def _find_manifest(location: str) -> str:
    """The manifest file itself, or the one of a folder."""
    if location.lower().endswith(tuple(READERS)) or not is_folder(location):
        return location
    found = [name for name in MANIFEST_NAMES if exists(join(location, name))]
    if len(found) != 1:
        number = f"{len(found)} of " if found else "none of "
        raise ValueError(
            f"{location} holds {number}{', '.join(MANIFEST_NAMES)}; name the manifest file"
        )
    return join(location, found[0])
