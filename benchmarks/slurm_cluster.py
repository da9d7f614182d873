"""A real Slurm cluster of three nodes on this host: munged, slurmctld and three slurmd.

Everything lives in one folder, on free ports, and is gone afterwards. Tests and the cluster drill
share it. Three partitions: `main`; `urgent`, whose jobs send those of `main` back to the queue; and
`paid`, which takes no account that there is.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

NODES = ("n1", "n2", "n3")
START_SECONDS = 60
STOP_SECONDS = 10
LONGEST_FOLDER = 75
"""Letters; a socket's path has at most 107, and a job whose has more is queued again for ever."""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
NODE_VARIABLE = "TRIPTYCH_CLUSTER_NODE"
"""In the environment of a node's daemon, and so in that of every step that it starts."""

KILL_SECONDS = 10
"""How long the ranks of a job may go on after a SIGTERM."""

ENDED = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY",
    "DEADLINE", "BOOT_FAIL", "UNKNOWN",
)  # fmt: skip
"""States of jobs that do not go on; of the others there are many for a moment, as SIGNALING."""

SLURM_CONF = """\
ClusterName=triptych
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
FirstJobId={first_job}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=batch_sched_delay=0,sched_interval=1
EnforcePartLimits=ALL
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout={node_seconds}
KillWait={kill_seconds}
InactiveLimit=0
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=paid Nodes=ALL MaxTime=INFINITE State=UP AllowAccounts=vision
"""


def missing_programs() -> list[str]:
    """Programs of Slurm and munge that are not on this machine."""
    return [program for program in PROGRAMS if _find(program) is None]


@contextlib.contextmanager
def running_cluster(folder: Path, **options: int) -> Iterator["SlurmCluster"]:
    """A cluster, which this process and its children find by SLURM_CONF meanwhile.

    Args:
        folder: Where it lives; it exists and is empty.
        options: Of `SlurmCluster`.
    """
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    cluster = SlurmCluster(folder, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


@dataclass
class SlurmCluster:
    """The running cluster.

    Attributes:
        folder: Where it lives.
        node_seconds: How long a node may be silent before it counts as dead.
    """

    folder: Path
    node_seconds: int = 300
    _daemons: dict[str, subprocess.Popen] = field(default_factory=dict)

    def start(self) -> None:
        """Start the daemons and wait until every node is idle."""
        self._write_configuration()
        munge = [f"--{name}={self.folder}/munge.{name}" for name in ("socket", "seed-file")]
        munge += [f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munge.pid"]
        self._spawn("munged", "munged", "--foreground", "--force", *munge)
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munged's socket")
        self._spawn("slurmctld", "slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        self.wait_for(self.all_idle, "three idle nodes")

    def start_node(self, node: str) -> None:
        """Start the daemon of one node, for the first time or again."""
        self._spawn(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut does: its daemon, and all that it has started."""
        self._daemons.pop(node).kill()
        for name in (NODE_VARIABLE, "SLURMD_NODENAME"):
            for pid in self.processes(f"{name}={node}"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _write_configuration(self) -> None:
        """The munge key, slurm.conf and the folders it names."""
        if len(str(self.folder)) > LONGEST_FOLDER:
            raise ValueError(f"{self.folder}: too long a path for the sockets of slurmstepd in it")
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(64))
        (self.folder / "munge.key").chmod(0o600)
        ports = free_ports(1 + len(NODES))
        host = socket.gethostname()
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 "
            "RealMemory=4000 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        # Ports of ranks come from job ids, which must not be those of another cluster on this host.
        text = SLURM_CONF.format(
            host=host, ports=ports, user=getpass.getuser(), folder=self.folder,
            kill_seconds=KILL_SECONDS, node_seconds=self.node_seconds,
            first_job=secrets.randbelow(1_000_000) + 1, nodes="\n".join(nodes),
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(text)

    def _spawn(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground of its own session, its output in a file."""
        program = _find(command[0])
        assert program is not None
        with (self.folder / f"{name}.out").open("a") as output:
            self._daemons[name] = subprocess.Popen(
                [program, *command[1:]],
                env=os.environ | {NODE_VARIABLE: name},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for(
        self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS
    ) -> None:
        """Wait with a bound; a daemon that has ended, or too long a wait, shows the logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"no {what}; ended: {ended}\n{self.logs()}")
            time.sleep(0.1)

    def all_idle(self) -> bool:
        """Whether every node takes jobs."""
        answer = self.run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N")
        return set(answer.split()) == set(NODES)

    def run(self, *command: str) -> str:
        """What a client prints; empty where it fails."""
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return answer.stdout if answer.returncode == 0 else ""

    def shown(self, job_id: str) -> dict[str, str]:
        """What scontrol says of a job, word by word; there is no accounting to ask."""
        words = self.run("scontrol", "--oneliner", "show", "job", job_id).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state_of(self, job_id: str) -> str:
        """Slurm's word for it; UNKNOWN where it has forgotten the job."""
        return self.shown(job_id).get("JobState", "UNKNOWN")

    def wait_for_job(self, job_id: str, seconds: float = 60) -> str:
        """The state in which a job ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (state := self.state_of(job_id)) in ENDED:
                return state
            time.sleep(0.2)
        raise TimeoutError(f"job {job_id} is not done in {seconds} s\n{self.logs()}")

    def wait_for_restart(self, job_id: str, times: int, seconds: float = 60) -> None:
        """Until a job that was queued again runs for so many times more, with a shorter wait.

        Slurm lets it wait for as long as its old credential is good, 121 s, and takes it sooner
        where it is told to. At once is too soon: what still ends the old steps, which are named
        as the new ones, was seen to end those.
        """
        began = time.monotonic()
        deadline = began + seconds
        while (job := self.shown(job_id)).get("JobState") != "RUNNING" or not (
            int(job["Restarts"]) >= times
        ):
            if job.get("JobState", "UNKNOWN") in ENDED or time.monotonic() > deadline:
                raise RuntimeError(f"job {job_id} is not started again: {job}\n{self.logs()}")
            if job.get("Reason") == "BeginTime" and time.monotonic() > began + KILL_SECONDS + 5:
                self.run("scontrol", "update", f"jobid={job_id}", "StartTime=now")
            time.sleep(0.2)

    def logs(self) -> str:
        """The last lines of every daemon."""
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {file.name}\n{file.read_text()[-1500:]}" for file in files)

    def stop(self) -> None:
        """End the jobs, then the daemons; leave no process behind."""
        self.run("scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}")
        self.run("scancel", f"--user={getpass.getuser()}")
        daemons = list(reversed(self._daemons.values()))
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        # Again and again: they may start others, and take a moment to be gone.
        deadline = time.monotonic() + STOP_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def rank(self, job_id: str, number: int) -> int:
        """Process id of a rank of a running pretraining job."""
        for pid in self.processes(f"SLURM_JOB_ID={job_id}", f"SLURM_PROCID={number}"):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"launch.worker" in words and b"srun" not in words[0]:
                return pid
        raise RuntimeError(f"rank {number} of job {job_id} is nowhere")

    def processes(self, *marks: str) -> list[int]:
        """Those with our SLURM_CONF and some more variables in their environment, but this one."""
        wanted = [f"SLURM_CONF={self.folder}/slurm.conf", *marks]
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                variables = environ.read_bytes().split(b"\0")
            except OSError:
                continue
            if all(mark.encode() in variables for mark in wanted):
                found.append(int(environ.parent.name))
        return [pid for pid in found if pid != os.getpid()]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _find(program: str) -> str | None:
    """Where a program is; daemons need not be on a user's PATH."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
