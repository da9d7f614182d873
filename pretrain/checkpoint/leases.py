"""Leases: a checkpoint that somebody waits to read is not removed.

A lease is a file beside the checkpoint. It ends when the file that its holder promised is there,
or at an age limit, so that nothing needs to be told when a holder dies.
"""

import json
import time
from pathlib import Path

from data_sharding.durable import write_durably
from pretrain.checkpoint.record import Checkpoint


def take_lease(checkpoint: Checkpoint, holder: str, promised: Path) -> Path:
    """Keep a checkpoint until ``promised`` tells of it.

    Args:
        checkpoint: What is kept.
        holder: A name that is a file's name too; the same one renews its lease.
        promised: File in the run folder that will hold the checkpoint's digest.

    Returns:
        The lease; whoever gives up removes it.
    """
    lease = checkpoint.folder.with_name(f"{checkpoint.folder.name}.lease-{holder}.json")
    content = {
        "holder": holder,
        "digest": checkpoint.digest,
        "promised": promised.relative_to(checkpoint.run).as_posix(),
        "since": time.time(),
    }
    write_durably(lease, json.dumps(content).encode())
    return lease


def is_leased(folder: Path, lease_hours: float) -> bool:
    """Whether anybody still waits to read the checkpoint at ``folder``; ended leases go."""
    open_leases = False
    for lease in folder.parent.glob(f"{folder.name}.lease-*.json"):
        if _has_ended(lease, lease_hours):
            lease.unlink(missing_ok=True)
        else:
            open_leases = True
    return open_leases


def _has_ended(lease: Path, lease_hours: float) -> bool:
    try:
        content = json.loads(lease.read_text())
        run = lease.parent.parent
        age_hours = (time.time() - float(content["since"])) / 3600.0
        promised, digest = run / str(content["promised"]), str(content["digest"])
    except FileNotFoundError:
        return True  # its holder gave up between our two looks
    except (ValueError, KeyError, TypeError):
        return True  # written whole or not at all: this is no lease
    if age_hours > lease_hours:
        return True
    return promised.is_file() and digest.encode() in promised.read_bytes()
