import os
import socket
import stat
import subprocess
import sys

import pytest

from launch.rendezvous import (
    SLURM_PORTS,
    Rendezvous,
    find_rendezvous,
    free_port,
    refuse_taken_port,
    rendezvous,
    slurm_port,
)

TORCHRUN = {
    "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4",
    "MASTER_ADDR": "node", "MASTER_PORT": "29500",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "0", "SLURM_JOB_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "9", "SLURM_NTASKS": "16", "SLURM_LOCALID": "1",
}  # fmt: skip


@pytest.fixture
def fake_scontrol(tmp_path, monkeypatch):
    """Puts a scontrol on PATH that knows two nodes; returns a way to say their host name."""

    def install(first_host: str, node_addr: str) -> None:
        script = tmp_path / "scontrol"
        script.write_text(
            "#!/bin/sh\n"
            f'case "$2" in hostnames) printf "{first_host}\\nother\\n";;\n'
            f'node) echo "NodeName=$3 Arch=x86_64 NodeAddr={node_addr} NodeHostName=$3";;\nesac\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


def test_torchruns_variables_are_taken_as_they_are():
    assert find_rendezvous(TORCHRUN).environment() == TORCHRUN


def test_torchrun_inside_a_slurm_job_wins_over_slurm():
    assert find_rendezvous(SLURM | TORCHRUN).environment() == TORCHRUN


def test_a_process_alone_is_a_world_of_one():
    alone = find_rendezvous({})
    assert (alone.rank, alone.local_rank, alone.world_size) == (0, 0, 1)
    assert alone.master_addr == "127.0.0.1"


def test_all_ranks_of_a_job_agree_on_an_address_and_a_port(fake_scontrol):
    fake_scontrol("localhost", "10.0.0.7")
    first, last = (
        find_rendezvous(SLURM | {"SLURM_PROCID": rank, "SLURM_LOCALID": "0"})
        for rank in ("0", "15")
    )
    assert first.master_addr == last.master_addr == "localhost"
    assert first.master_port == last.master_port
    assert (first.rank, last.rank, last.world_size) == (0, 15, 16)


def test_a_node_name_that_does_not_resolve_gives_way_to_its_address(fake_scontrol):
    fake_scontrol("no-such-host.invalid", "10.0.0.7")
    assert find_rendezvous(SLURM).master_addr == "10.0.0.7"


def test_the_launching_node_is_the_last_resort(fake_scontrol):
    fake_scontrol("no-such-host.invalid", "neither.invalid")
    environ = SLURM | {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.9"}
    assert find_rendezvous(environ).master_addr == "10.0.0.9"


def test_without_any_address_the_error_says_what_was_tried(fake_scontrol):
    fake_scontrol("no-such-host.invalid", "neither.invalid")
    with pytest.raises(ValueError, match=r"tried no-such-host\.invalid, neither\.invalid"):
        find_rendezvous(SLURM)


def test_without_scontrol_a_single_node_is_found_by_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    environ = SLURM | {"SLURM_JOB_NODELIST": "localhost"}
    assert find_rendezvous(environ).master_addr == "localhost"


def test_an_address_and_a_port_given_by_hand_win():
    given = {"MASTER_ADDR": "10.1.1.1", "MASTER_PORT": "4000"}
    found = find_rendezvous(SLURM | given)
    assert (found.master_addr, found.master_port) == ("10.1.1.1", 4000)


def test_a_requeued_job_takes_another_port():
    ports = {slurm_port(SLURM | {"SLURM_RESTART_COUNT": str(count)}) for count in range(5)}
    assert len(ports) == 5
    assert ports <= set(SLURM_PORTS)


def test_jobs_in_a_row_take_different_ports():
    ports = {slurm_port(SLURM | {"SLURM_JOB_ID": str(job)}) for job in range(1000, 1100)}
    assert len(ports) == 100


def test_the_script_of_a_job_finds_a_free_port_near_its_own():
    first = slurm_port(SLURM)
    command = [sys.executable, "-m", "launch.rendezvous"]
    with socket.create_server(("", first)):
        answer = subprocess.run(
            command, env=os.environ | SLURM, capture_output=True, text=True, check=True
        )
    assert int(answer.stdout) in SLURM_PORTS[SLURM_PORTS.index(first) + 1 :][:100]


def test_a_port_that_is_taken_is_refused_by_the_first_rank_with_its_values():
    port = free_port()
    first, second = (
        find_rendezvous(SLURM | {"SLURM_PROCID": rank, "SLURM_LOCALID": "0"}
                        | {"MASTER_ADDR": "gpu07", "MASTER_PORT": str(port)})
        for rank in ("0", "1")
    )  # fmt: skip
    refuse_taken_port(first, {})
    with socket.create_server(("", port)):
        message = rf"rank 0 of 16 cannot listen on port {port} of \S+ \(gpu07\): .*in use.*; set"
        with pytest.raises(ValueError, match=message):
            refuse_taken_port(first, {})
        refuse_taken_port(second, {})
        refuse_taken_port(first, {"TORCHELASTIC_USE_AGENT_STORE": "True"})


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "RANK=0, WORLD_SIZE=2 without LOCAL_RANK, MASTER_ADDR"),
        (TORCHRUN | {"RANK": "4"}, "rank 4 is not in a world of 4"),
        (TORCHRUN | {"WORLD_SIZE": "four"}, "WORLD_SIZE must be a number, got 'four'"),
        (TORCHRUN | {"LOCAL_RANK": "7"}, "local rank 7"),
        (TORCHRUN | {"MASTER_PORT": "99999"}, "master port 99999"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "start it with srun"),
        (SLURM | {"MASTER_ADDR": "x", "SLURM_LOCALID": ""}, "SLURM_LOCALID must be a number"),
    ],
)
def test_variables_that_contradict_each_other_are_refused_with_their_values(environ, message):
    with pytest.raises(ValueError, match=message):
        find_rendezvous(environ)


def test_the_five_variables_are_left_in_the_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    place = rendezvous()
    assert place == Rendezvous(
        rank=3, local_rank=1, world_size=4, master_addr="node", master_port=29500
    )
    assert {name: os.environ[name] for name in TORCHRUN} == TORCHRUN
