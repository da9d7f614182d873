"""`triptych publish`: a backbone given out as a folder, and from there onto the Hub."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from huggingface_hub import HfApi

from eval.release.publish import PublishConfig, publish
from eval.release.push import find_target, plan_push, push
from launch.aside import Where, run_aside
from launch.cluster import ClusterConfig
from pretrain.checkpoint import open_checkpoint


@dataclass(frozen=True, kw_only=True)
class PublishCommand:
    """Write a checkpoint's backbone in the form others load it, with a model card."""

    checkpoint: tyro.conf.Positional[Path]
    """A checkpoint folder, or a run folder for its newest one."""

    out: tyro.conf.Positional[Path]
    """Folder to create."""

    push_to: str | None = None
    """OWNER/NAME of an existing repository on the Hugging Face Hub: the folder goes there in one
    commit, after what goes has been listed. Needs a token (`hf auth login`, or HF_TOKEN)."""

    dry_run: bool = False
    """With --push-to: list what would go, and push nothing. The folder is written."""

    cluster: Where = "inline"
    """Here, in the background, or as a Slurm job."""

    slurm: ClusterConfig = field(default_factory=ClusterConfig)
    """What a Slurm job asks for."""

    config: Annotated[PublishConfig, tyro.conf.arg(name="")]


def publish_command(arguments: list[str]) -> int:
    """`triptych publish`."""
    command = tyro.cli(PublishCommand, args=arguments, prog="triptych publish")
    if command.dry_run and command.push_to is None:
        raise ValueError("--dry-run is about --push-to, which is not given")
    # Before any work: a mistyped repository or a missing token should not wait for a publication.
    target = find_target(command.push_to, HfApi()) if command.push_to is not None else None
    if command.cluster != "inline":
        run = open_checkpoint(command.checkpoint, verify=False).run
        print(run_aside(command.cluster, "publish", arguments, run, command.slurm))
        return 0
    print(publish(open_checkpoint(command.checkpoint), command.out, command.config))
    if target is not None:
        plan = plan_push(command.out, target, command.config.overwrite)
        print("\n".join(plan.lines()), flush=True)
        if not command.dry_run:
            print(push(command.out, plan, f"Publish {command.config.name}", HfApi()))
    return 0
