"""Every set that can be imported from its own layout, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from eval.card import Task
from eval.importers.acted_speech import SPEECH_SETS, import_speech_set
from eval.importers.meld import Target, import_meld
from eval.importers.mvsa import Protocol, import_mvsa
from eval.importers.parts import Parts
from eval.importers.video_sets import VIDEO_SETS, import_video_set


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What some sets leave open; a set that does not know an option refuses it."""

    protocol: Protocol | None = None
    """MVSA: which pairs stay. `xu-mao-2017` (the default): equal labels, and a neutral one gives
    way to the other; `agreeing`: only pairs whose two labels agree."""

    parts: Parts | None = None
    """MOSI, MOSEI, CH-SIMS, SIMS v2, MELD: `authors` (the default) keeps the published training,
    validation and test parts; `groups` splits at random and keeps a video or dialogue whole."""

    text_only: bool = False
    """MOSI, MOSEI, CH-SIMS, SIMS v2, MELD: leave pictures and sound out."""

    def given(self) -> dict[str, object]:
        """The options that were given."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, kw_only=True)
class Importer:
    """One set."""

    about: str
    """In a line, for the help."""
    run: Callable[[Path, Path, ImportOptions], Task]
    takes: tuple[str, ...] = ()
    """Options that it knows."""


def import_set(name: str, folder: Path, out: Path, options: ImportOptions | None = None) -> Task:
    """Import a set from the layout that its authors distribute.

    Args:
        name: One of `IMPORTERS`.
        folder: The unpacked set; read only.
        out: Task folder to create.
        options: What the set leaves open.

    Raises:
        ValueError: No such set, an option that it does not know, another layout; see the set's
            module.
        data_sharding.schema.ShardError: The rows cannot be sharded.
    """
    if name not in IMPORTERS:
        raise ValueError(f"no set is called {name!r}; there are {', '.join(IMPORTERS)}")
    options = options or ImportOptions()
    unknown = sorted(set(options.given()) - set(IMPORTERS[name].takes))
    if unknown:
        flags = ", ".join(f"--{option.replace('_', '-')}" for option in unknown)
        raise ValueError(f"{flags}: the set {name} leaves nothing of the kind open")
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    return IMPORTERS[name].run(folder, out, options)


def _mvsa(annotators: int, folder: Path, out: Path, options: ImportOptions) -> Task:
    wanted = options.protocol or "xu-mao-2017"
    return import_mvsa(folder, out, 1 if annotators == 1 else 3, wanted)


def _meld(target: Target, folder: Path, out: Path, options: ImportOptions) -> Task:
    return import_meld(target, folder, out, options.parts or "authors", options.text_only)


def _video(name: str, folder: Path, out: Path, options: ImportOptions) -> Task:
    return import_video_set(name, folder, out, options.parts or "authors", options.text_only)


def _speech(name: str, folder: Path, out: Path, options: ImportOptions) -> Task:
    return import_speech_set(name, folder, out)


_WITH_PARTS = ("parts", "text_only")

IMPORTERS: Mapping[str, Importer] = {
    "mvsa-single": Importer(
        about="tweets with a picture, 3 sentiments: labelResultAll.txt, data/ID.txt, data/ID.jpg",
        run=partial(_mvsa, 1),
        takes=("protocol",),
    ),
    "mvsa-multiple": Importer(
        about="the same by three annotators", run=partial(_mvsa, 3), takes=("protocol",)
    ),
    "meld-sentiment": Importer(
        about="TV dialogues, 3 sentiments: train_sent_emo.csv, ..., train_splits/dia0_utt0.mp4",
        run=partial(_meld, "sentiment"),
        takes=_WITH_PARTS,
    ),
    "meld-emotion": Importer(
        about="the same, 7 emotions", run=partial(_meld, "emotion"), takes=_WITH_PARTS
    ),
    **{
        name: Importer(
            about=f"opinions on video, intensity from {known.label_range[0]:g} to "
            f"{known.label_range[1]:g}: label.csv, Raw/VIDEO_ID/CLIP_ID.mp4",
            run=partial(_video, name),
            takes=_WITH_PARTS,
        )
        for name, known in VIDEO_SETS.items()
    },
    **{
        name: Importer(
            about=f"acted speech, {len(known.emotions)} emotions: {known.example}",
            run=partial(_speech, name),
        )
        for name, known in SPEECH_SETS.items()
    },
}
"""By name."""
