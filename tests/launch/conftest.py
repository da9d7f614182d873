"""A real Slurm cluster of three nodes on this host: munged, slurmctld and three slurmd.

Everything lives in a temporary folder, on free ports, and is gone afterwards. Where Slurm is
missing the tests are skipped, but they fail where CI is set: a green run has run them.
"""

import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

NODES = ("n1", "n2", "n3")
START_SECONDS = 30
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")

SLURM_CONF = """\
ClusterName=triptych
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
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
SchedulerParameters=batch_sched_delay=0
ReturnToService=2
KillWait=5
InactiveLimit=0
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class SlurmCluster:
    """The running cluster; clients find it by SLURM_CONF."""

    folder: Path
    daemons: list[subprocess.Popen] = field(default_factory=list)

    def start(self) -> None:
        """Start the daemons and wait until every node is idle."""
        self.write_configuration()
        munge = [f"--{name}={self.folder}/munge.{name}" for name in ("socket", "seed-file")]
        munge += [f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munge.pid"]
        self.spawn(["munged", "--foreground", "--force", *munge], "munged")
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munged's socket")
        self.spawn(["slurmctld", "-D"], "slurmctld")
        for node in NODES:
            self.spawn(["slurmd", "-D", "-N", node], f"slurmd-{node}")
        self.wait_for(self.all_idle, "three idle nodes")

    def write_configuration(self) -> None:
        """The munge key, slurm.conf and the folders it names."""
        (self.folder / "state").mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(64))
        (self.folder / "munge.key").chmod(0o600)
        ports = free_ports(1 + len(NODES))
        host = socket.gethostname()
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 "
            "RealMemory=4000 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        text = SLURM_CONF.format(
            host=host, ports=ports, user=getpass.getuser(), folder=self.folder,
            nodes="\n".join(nodes),
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(text)

    def spawn(self, command: list[str], name: str) -> None:
        """Start a daemon in the foreground of its own session, its output in a file."""
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program is not None
        with (self.folder / f"{name}.out").open("w") as output:
            daemon = subprocess.Popen(
                [program, *command[1:]], stdout=output, stderr=output, start_new_session=True
            )
        self.daemons.append(daemon)

    def wait_for(self, condition, what: str, seconds: float = START_SECONDS) -> None:
        """Wait with a bound; a daemon that has ended, or too long a wait, shows the logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = [daemon.args[0] for daemon in self.daemons if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"no {what}; ended: {ended}\n{self.logs()}")
            time.sleep(0.1)

    def all_idle(self) -> bool:
        """Whether every node takes jobs."""
        answer = self.run("sinfo", "--noheader", "--Node", "--states=idle", "--format=%N")
        return len(answer.split()) == len(NODES)

    def run(self, *command: str) -> str:
        """What a client prints; empty where it fails."""
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return answer.stdout if answer.returncode == 0 else ""

    def wait_for_job(self, job_id: str, seconds: float = 60) -> str:
        """The state in which a job ended. There is no accounting, so scontrol is asked."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shown = self.run("scontrol", "--oneliner", "show", "job", job_id)
            fields = dict(word.split("=", 1) for word in shown.split() if "=" in word)
            if fields.get("JobState") not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING"):
                return fields.get("JobState", "UNKNOWN")
            time.sleep(0.2)
        raise TimeoutError(f"job {job_id} is not done in {seconds} s\n{self.logs()}")

    def logs(self) -> str:
        """The last lines of every daemon."""
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {file.name}\n{file.read_text()[-1500:]}" for file in files)

    def stop(self) -> None:
        """End the jobs, then the daemons; leave no process behind."""
        self.run("scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}")
        self.run("scancel", f"--user={getpass.getuser()}")
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self.leftovers():
            os.kill(pid, 9)

    def leftovers(self) -> list[int]:
        """Processes that still have our SLURM_CONF in their environment, this one aside."""
        mark = f"SLURM_CONF={self.folder}/slurm.conf\0".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes():
                    found.append(int(environ.parent.name))
            except OSError:
                continue
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


def refuse(reason: str) -> None:
    """Skip on a workstation; fail in CI, where a skip would hide that nothing was tested."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}; CI must run the Slurm tests")
    pytest.skip(reason)  # a workstation without Slurm; in CI the lines above have failed


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory):
    """A cluster of three nodes for the whole test session."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        refuse(f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge")
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.folder / "slurm.conf"))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
