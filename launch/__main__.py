"""The `triptych` command."""

import difflib
import os
import sys
from collections.abc import Callable, Sequence

from launch.errors import log_plainly, user_errors
from launch.preemption import exit_code_kept

OVERVIEW = """\
usage: triptych COMMAND [options]; triptych COMMAND --help tells more

  demo         everything below in order, on the bundled sample corpus
  shard        raw corpus -> WebDataset shards with index and manifest
  index        foreign WebDataset tars -> a shard set, as they are
  verify       every checksum of a shard set; names the first broken bytes
  inspect      what a shard set holds: numbers, pictures, sound
  export-index indexes that wids, DALI and Megatron-Energon read
  stats        shards -> vocabulary, image and mel statistics
  blend        several shard sets, by weight, as one stream
  stream       how fast a set or blend is read and decoded
  views        the two views of some samples, to look at and listen to
  plan         a recipe looked at before it is submitted: data, memory, time, limits
  pretrain     shards -> checkpoints: multimodal BYOL, here or on a Slurm cluster
  task         labelled set, as its authors distribute it, or a table of your own -> task
  probe        checkpoint x task -> report of linear and other probes with floors
  retrieve     checkpoint x unseen samples -> one modality found by another, against chance
  publish      checkpoint -> backbone that transformers loads
  verify-backbone  a published backbone against its sums and its reference embedding
  embed        texts, pictures, recordings of your own x backbone -> Parquet or npy
  finetune     checkpoint x task -> backbone and head trained together, over five splits
  fit-head     task x backbone -> classifier
  predict      unseen samples x classifier -> label, probability, weight of each modality
  report       run -> one self-contained HTML page
  compare      runs -> which of their probes differ by more than their intervals
  status       where a run stands: queue, step, rate, checkpoint, health, probes
  logs         what a run's jobs have said
  watch        run -> probes of its checkpoints, as they are committed
  cancel       ask a run to save and stop, and take its jobs out of the queue

A run from raw files to a published backbone:

  triptych shard corpus/manifest.jsonl shards
  triptych stats shards
  triptych pretrain demo --run runs/first --pretrain.data.shards shards --ranks 2
  triptych probe runs/first sample-topics
  triptych publish runs/first backbone --licence apache-2.0
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sub-command that the first argument names.

    Args:
        arguments: If not given, those of this process, which ends with the command: to take Python
            and torch down would take it half a second more.
    """
    if arguments is None:
        with exit_code_kept():
            _run(sys.argv[1:])
    else:
        _run(list(arguments))


def _run(words: list[str]) -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    log_plainly()
    if not words or words[0] in ("-h", "--help", "help"):
        print(OVERVIEW, end="")
        return
    name, rest = words[0], words[1:]
    with user_errors():
        sys.exit(_find_command(name)(rest))


def _find_command(name: str) -> Callable[[list[str]], int]:
    # Imported here: `triptych --help` should not wait for torch.
    from launch.commands import COMMANDS

    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" did you mean {close[0]}?" if close else ""
        raise ValueError(f"no command is named {name!r};{hint} there are: {', '.join(COMMANDS)}")
    return COMMANDS[name]


if __name__ == "__main__":
    main()
