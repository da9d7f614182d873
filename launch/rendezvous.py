"""Where the ranks of a run meet: from torchrun's variables, else Slurm's, else alone.

DeepSpeed knows nothing of Slurm: it wants RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT, and reaches for mpi4py when one of them is missing. So all five are set.

``python -m launch.rendezvous`` prints a free port: a job's script asks for it on the first node,
where rank 0 will listen, and hands it to all ranks.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SCONTROL_TIMEOUT_SECONDS = 30
SLURM_PORTS = range(20_000, 32_000)
"""Below Linux's ephemeral ports, which other programs are given at random."""
PORTS_TRIED = 100


@dataclass(frozen=True, kw_only=True)
class Rendezvous:
    """One rank's place in the world, and where rank 0 listens."""

    rank: int
    local_rank: int
    world_size: int
    master_addr: str
    master_port: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} is not in a world of {self.world_size}")
        if not 0 <= self.local_rank <= self.rank:
            raise ValueError(f"local rank {self.local_rank} is not in [0, rank {self.rank}]")
        if not 0 < self.master_port < 65_536:
            raise ValueError(f"master port {self.master_port} is not in [1, 65535]")

    def environment(self) -> dict[str, str]:
        """The five variables that torch.distributed and DeepSpeed read."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world_size),
            "MASTER_ADDR": self.master_addr,
            "MASTER_PORT": str(self.master_port),
        }


def rendezvous() -> Rendezvous:
    """Find this process's rendezvous and put it into its environment.

    Raises:
        ValueError: the variables contradict each other or are incomplete.
    """
    found = find_rendezvous(os.environ)
    os.environ.update(found.environment())
    return found


def find_rendezvous(environ: Mapping[str, str]) -> Rendezvous:
    """The rendezvous that an environment describes; the environment stays as it is.

    torchrun's variables win over Slurm's, since torchrun may run inside a Slurm job.

    Raises:
        ValueError: the variables contradict each other or are incomplete.
    """
    if "RANK" in environ or "WORLD_SIZE" in environ:
        return _from_torchrun(environ)
    if "SLURM_STEP_ID" in environ:
        return _from_slurm(environ)
    num_tasks = int(environ.get("SLURM_NTASKS", "1"))
    if "SLURM_PROCID" in environ and num_tasks > 1:
        raise ValueError(
            f"SLURM_NTASKS={num_tasks}, but this process is the batch script, not a rank: "
            "start it with srun"
        )
    return Rendezvous(
        rank=0, local_rank=0, world_size=1, master_addr="127.0.0.1", master_port=free_port()
    )


def _from_torchrun(environ: Mapping[str, str]) -> Rendezvous:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if not environ.get(name)]
    if missing:
        given = ", ".join(f"{name}={environ[name]}" for name in names if environ.get(name))
        raise ValueError(f"{given} without {', '.join(missing)}: set all five or none of them")
    return Rendezvous(
        rank=_number(environ, "RANK"),
        local_rank=_number(environ, "LOCAL_RANK"),
        world_size=_number(environ, "WORLD_SIZE"),
        master_addr=environ["MASTER_ADDR"],
        master_port=_number(environ, "MASTER_PORT"),
    )


def _from_slurm(environ: Mapping[str, str]) -> Rendezvous:
    world_size = _number(environ, "SLURM_NTASKS")
    address = environ.get("MASTER_ADDR") or _first_node_address(environ)
    port = environ.get("MASTER_PORT") or str(slurm_port(environ))
    return Rendezvous(
        rank=_number(environ, "SLURM_PROCID"),
        local_rank=_number(environ, "SLURM_LOCALID"),
        world_size=world_size,
        master_addr=address,
        master_port=_number({"MASTER_PORT": port}, "MASTER_PORT"),
    )


def slurm_port(environ: Mapping[str, str]) -> int:
    """The same port on all ranks of a job; another one after a requeue, whose socket lingers."""
    job = _number(environ, "SLURM_JOB_ID")
    restarts = int(environ.get("SLURM_RESTART_COUNT", "0"))
    return SLURM_PORTS[(job * 7 + restarts) % len(SLURM_PORTS)]


def free_slurm_port(environ: Mapping[str, str]) -> int:
    """The first port from `slurm_port` on that this machine, the job's first node, has free.

    Raises:
        ValueError: none is, or this is no Slurm job.
    """
    begin = SLURM_PORTS.index(slurm_port(environ))
    ports = [SLURM_PORTS[(begin + turn) % len(SLURM_PORTS)] for turn in range(PORTS_TRIED)]
    free = next((port for port in ports if not _taken(port)), None)
    if free is None:
        raise ValueError(f"{socket.gethostname()}: none of the ports {ports} is free")
    return free


def refuse_taken_port(place: Rendezvous, environ: Mapping[str, str]) -> None:
    """Before the ranks meet: the port at which the first one listens must be free.

    Raises:
        ValueError: on the first rank, where another program has it.
    """
    # torchrun listens there itself, for its ranks.
    if place.rank != 0 or environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return
    if reason := _taken(place.master_port):
        raise ValueError(
            f"rank 0 of {place.world_size} cannot listen on port {place.master_port} of "
            f"{socket.gethostname()} ({place.master_addr}): {reason}; set MASTER_PORT to a free "
            f"one (`ss -ltnp sport = :{place.master_port}` shows who has it)"
        )


def _taken(port: int) -> str:
    """Why nobody else can listen on a port of this machine; empty where one can."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch's does
        try:
            listener.bind(("", port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _first_node_address(environ: Mapping[str, str]) -> str:
    """An address of the step's first node, where rank 0 runs, that resolves on this host."""
    node_list = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    tried = []
    for candidate in _addresses(_first_node(node_list), environ):
        if candidate and _resolves(candidate):
            return candidate
        tried.append(candidate or "(nothing)")
    raise ValueError(
        f"no address of rank 0 resolves: tried {', '.join(tried)} for the nodes {node_list!r}; "
        "set MASTER_ADDR to an address of the first node"
    )


def _addresses(node: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Candidates, the best first. Node names need not be host names."""
    yield node
    node_addr = re.search(r"\bNodeAddr=(\S+)", _scontrol("show", "node", node)) if node else None
    yield node_addr.group(1) if node_addr else ""
    yield environ.get("SLURM_LAUNCH_NODE_IPADDR", "")


def _first_node(node_list: str) -> str:
    """The first of ``n[1-3],m7``; empty where only scontrol could tell and it does not."""
    names = _scontrol("show", "hostnames", node_list).splitlines() if node_list else []
    if names:
        return names[0]
    return "" if "[" in node_list else node_list.split(",")[0]


def _scontrol(*arguments: str) -> str:
    """What scontrol prints; empty where it is missing or fails."""
    if shutil.which("scontrol") is None:
        return ""
    try:
        answer = subprocess.run(
            ["scontrol", *arguments],
            capture_output=True, text=True, timeout=SCONTROL_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not text.isdecimal():
        raise ValueError(f"{name} must be a number, got {text!r}")
    return int(text)


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main() -> None:
    """Print a free port for the ranks of this job."""
    print(free_slurm_port(os.environ))


if __name__ == "__main__":
    main()
