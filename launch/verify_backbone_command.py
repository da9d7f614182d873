"""`triptych verify-backbone`: is a published backbone what was published?"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from eval.release.publish import verify_published


@dataclass(frozen=True, kw_only=True)
class VerifyBackboneCommand:
    """Check a published backbone, or one encoder's folder of it.

    Every file against its sha256, no pickle among them, and the features of a fixed input against
    those of the day of publication. It may be a download from the Hub: what the Hub, git or `hf
    download` put beside it is passed over. Exit code 2 names what is wrong.
    """

    folder: tyro.conf.Positional[Path]
    """What `triptych publish` wrote, or its text, image or audio folder."""


def verify_backbone_command(arguments: list[str]) -> int:
    """`triptych verify-backbone`."""
    command = tyro.cli(VerifyBackboneCommand, args=arguments, prog="triptych verify-backbone")
    print(f"{command.folder}: every file is whole; {verify_published(command.folder)}")
    return 0
