"""The files of an unpacked set, found by what their paths end in.

Names that a label file holds are looked up here and never used as paths.
"""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from eval.importers.rows import Account, LabelledRow

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
VIDEO = (".mp4", ".avi", ".mkv", ".webm", ".flv")

FFMPEG_SECONDS = 600.0
SOUND = ("-vn", "-ac", "1", "-ar", "16000")
PICTURE = ("-vf", "thumbnail", "-frames:v", "1")

NO_TRACK = "does not contain any stream"
"""What ffmpeg says, and fails, where the video has no sound or no picture."""

FAILED = "pictures or sound that ffmpeg failed to take out"

EXTRACTION_ADVICE = (
    "there is no ffmpeg to take picture and sound out; install it, or lay both beside each video: "
    "`ffmpeg -i CLIP.mp4 -vn -ac 1 -ar 16000 CLIP.wav` and "
    "`ffmpeg -i CLIP.mp4 -vf thumbnail -frames:v 1 CLIP.jpg`; --text-only imports the words alone"
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies in the folder for one clip; None where there is nothing."""

    image: Path | None
    """A picture, or the middle one of a folder of frames."""
    audio: Path | None
    video: Path | None


class MediaTree:
    """Files below a folder by their last two names: ``Raw/VIDEO/CLIP.mp4`` is (VIDEO, CLIP).

    Links to folders are not followed.

    Args:
        folder: Of the unpacked set; read once.
    """

    def __init__(self, folder: Path) -> None:
        self._files: dict[tuple[str, str], list[Path]] = defaultdict(list)
        self._frames: dict[tuple[str, str], list[Path]] = defaultdict(list)
        self.all: list[Path] = []
        """Every file, sorted."""
        for place, folders, names in os.walk(folder):
            folders.sort()
            here = Path(place)
            for name in sorted(names):
                path = here / name
                self.all.append(path)
                self._files[here.name, path.stem].append(path)
                if path.suffix.lower() in IMAGES:
                    self._frames[here.parent.name, here.name].append(path)

    def find(self, places: Iterable[tuple[str, str]]) -> Found:
        """The clip's media, at the first of some places that has each.

        Args:
            places: (folder, name without suffix), in order of preference.
        """
        wanted = list(places)
        files = [path for place in wanted for path in self._files.get(place, ())]
        frames = [self._frames[place] for place in wanted if place in self._frames]
        middle = [several[len(several) // 2] for several in frames]
        return Found(
            image=_first([*files, *middle], IMAGES),
            audio=_first(files, AUDIO),
            video=_first(files, VIDEO),
        )

    def named(self, *names: str) -> list[Path]:
        """Files of these names, wherever they lie."""
        return [path for path in self.all if path.name in names]


class VideoReader:
    """Takes a recording and one picture out of videos, by ffmpeg.

    Args:
        scratch: Folder for what is taken out.
        program: ffmpeg; None: the one on the search path, if there is one.
    """

    def __init__(self, scratch: Path, program: str | None = None) -> None:
        self._scratch = scratch
        self._program = program or shutil.which("ffmpeg")
        self._count = 0

    @property
    def available(self) -> bool:
        """Whether there is an ffmpeg."""
        return self._program is not None

    def take_out(self, found: Found, account: Account) -> Found:
        """The clip with what it lacks taken out of its video; sound as mono at 16 kHz.

        A track that the video does not have stays missing; so does what ffmpeg fails on, which is
        counted with the first of its reasons.

        Raises:
            ValueError: ffmpeg did not end in time.
        """
        if found.video is None or self._program is None:
            return found
        self._count += 1
        image, audio = found.image, found.audio
        if audio is None:
            wanted = self._scratch / f"sound-{self._count:08d}.wav"
            audio = self._run(found.video, SOUND, wanted, account)
        if image is None:
            wanted = self._scratch / f"picture-{self._count:08d}.jpg"
            image = self._run(found.video, PICTURE, wanted, account)
        return Found(image=image, audio=audio, video=found.video)

    def _run(
        self, video: Path, options: tuple[str, ...], wanted: Path, account: Account
    ) -> Path | None:
        self._scratch.mkdir(parents=True, exist_ok=True)
        command = [str(self._program), "-nostdin", "-loglevel", "error", "-y"]
        command += ["-i", str(video.absolute()), *options, str(wanted)]
        try:
            ended = subprocess.run(
                command, capture_output=True, timeout=FFMPEG_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"{video}: ffmpeg took over {FFMPEG_SECONDS:.0f} s") from None
        if ended.returncode == 0 and wanted.is_file() and wanted.stat().st_size:
            return wanted
        wanted.unlink(missing_ok=True)  # what a broken video gave before ffmpeg gave up
        told = ended.stderr.decode("utf-8", "replace")
        if NO_TRACK not in told:
            account.count(FAILED, f"{video.name}: {_reason(told, ended.returncode, video, wanted)}")
        return None


def _reason(told: str, returncode: int, video: Path, wanted: Path) -> str:
    """The first line of ffmpeg without this machine's paths and addresses: cards travel."""
    line = next((line.strip() for line in told.splitlines() if line.strip()), "")
    for path in (video.absolute(), wanted):
        line = line.replace(str(path), path.name)
    return re.sub(r" @ 0x[0-9a-f]+", "", line) or f"no word, exit status {returncode}"


def with_media(
    row: LabelledRow,
    places: Iterable[tuple[str, str]],
    tree: MediaTree,
    reader: VideoReader,
    account: Account,
) -> LabelledRow:
    """The row with its picture and sound; what is missing is counted.

    Raises:
        ValueError: There is a video, and no ffmpeg to take them out.
    """
    found = tree.find(places)
    if found.video is not None and None in (found.image, found.audio):
        if not reader.available:
            raise ValueError(f"{found.video}: {EXTRACTION_ADVICE}")
        found = reader.take_out(found, account)
    account.counts["rows without a picture"] += found.image is None
    account.counts["rows without sound"] += found.audio is None
    return replace(row, image=found.image, audio=found.audio)


def _first(paths: Iterable[Path], suffixes: tuple[str, ...]) -> Path | None:
    return next((path for path in paths if path.suffix.lower() in suffixes), None)
