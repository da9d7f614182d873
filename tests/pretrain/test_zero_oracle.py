"""The target under ZeRO against a plain loop in one process, and its state on other ranks."""

import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

import zero_cases
from pretrain.engine import join_process_group, leave_process_group
from tiny import whole_state
from zero_cases import BFLOAT16, CASES, FLOAT32, RESUMED

RANKS = [1, 2, pytest.param(4, marks=pytest.mark.drill)]


def run_rank(rank, world_size, port, written, folder):
    """One rank of a group that trains every case, after it read what other ranks wrote."""
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": str(rank)}
    os.environ.update(address | ranks)
    join_process_group()
    work(written, folder)
    leave_process_group()


def run_ranks(_, given):
    """Forked from one process that has imported all, which takes longer than a few cases."""
    mp.start_processes(run_rank, given, nprocs=given[0], start_method="fork")


def work(written, folder):
    for case in CASES:
        zero_cases.run_case(case, folder)
    for case in RESUMED if written is not None else ():
        zero_cases.move(case, (case.stage + 1) % 4, written, folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, process_group):
    """What the cases told, by number of ranks; made when first asked for."""
    made = {}

    def folder_of(world_size):
        if world_size not in made:
            written = None if world_size == 1 else folder_of(1)
            made[world_size] = tmp_path_factory.mktemp(f"ranks-{world_size}")
            if world_size == 1:
                work(written, made[1])
            else:
                spawn(world_size, written, made[world_size])
        return made[world_size]

    with pytest.MonkeyPatch.context() as patch:
        for name, value in process_group.items():
            patch.setenv(name, value)
        yield folder_of


def spawn(world_size, written, folder):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    given = (world_size, port, written, folder)
    group = mp.spawn(run_ranks, (given,), nprocs=1, join=False)
    for _ in range(300):
        if group.join(timeout=1.0):
            return
    for process in group.processes:
        process.kill()
    pytest.fail(f"{world_size} ranks did not end within five minutes")


@pytest.fixture(scope="module")
def oracles():
    return {tau: zero_cases.oracle(tau) for tau in {case.tau for case in FLOAT32}}


def told(folder, name, prefix=""):
    found = load_file(folder / f"{name}.safetensors")
    return {key.removeprefix(prefix): v for key, v in found.items() if key.startswith(prefix)}


def worst(found, expected):
    """Greatest distance of a tensor, relative to its norm."""
    assert found.keys() == expected.keys()
    return max(
        ((found[name].double() - value.double()).norm() / value.double().norm()).item()
        for name, value in expected.items()
    )


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", FLOAT32, ids=lambda case: case.name)
def test_online_and_target_are_those_of_a_plain_loop_in_one_process(folders, oracles, case, ranks):
    online, target = oracles[case.tau]
    final = told(folders(ranks), case.name, "final/")
    assert worst(final, zero_cases.named(online=online, target=target)) < 1e-5
    # A target that hardly moves is near the oracle's anyway: what it moved is compared too.
    start = dict(zero_cases.networks()[1].named_parameters())
    moving = [name for name in target if ".stem." not in name]
    moved = {name: final[f"target/{name}"].double() - start[name].detach() for name in moving}
    wanted = {name: target[name] - start[name].detach() for name in moving}
    assert worst(moved, wanted) < 1e-2


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", BFLOAT16, ids=lambda case: case.name)
def test_a_bfloat16_runs_target_follows_the_float32_masters_and_a_rounded_one_does_not(
    folders, case, ranks
):
    folder = folders(ranks)
    target = told(folder, case.name, "final/target/")
    replayed = told(folder, case.name, "replayed/")
    assert worst(target, replayed) < 1e-6
    assert worst(told(folder, case.name, "rounded/"), replayed) > 1e-4
    rounded = {name: value.bfloat16().float() for name, value in target.items()}
    assert worst(told(folder, case.name, "working/"), rounded) == 0.0


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", RESUMED, ids=lambda case: case.name)
def test_a_resumed_run_on_the_same_ranks_is_the_same_bit_for_bit(folders, case, ranks):
    resumed = told(folders(ranks), case.name, "resumed/")
    final = told(folders(ranks), case.name, "final/")
    assert all(torch.equal(resumed[name], value) for name, value in final.items())
    assert resumed.keys() == final.keys()


@pytest.mark.parametrize("ranks", RANKS[1:])
@pytest.mark.parametrize("case", RESUMED, ids=lambda case: case.name)
def test_other_ranks_at_another_stage_read_the_same_state_and_train_on(
    folders, oracles, case, ranks
):
    name = f"{case.name}-to-{(case.stage + 1) % 4}"
    assert same_state(folders(1) / case.name, folders(ranks) / name)
    if case.precision == "fp32":
        expected = zero_cases.named(
            **dict(zip(("online", "target"), oracles[case.tau], strict=True))
        )
        assert worst(told(folders(ranks), name), expected) < 1e-5


@pytest.mark.parametrize("case", RESUMED, ids=lambda case: case.name)
def test_one_rank_at_another_stage_reads_what_two_wrote(folders, case, tmp_path):
    written = folders(2) / case.name
    trained = zero_cases.Trained(zero_cases.replace(case, stage=(case.stage + 2) % 4))
    trained.load(written, zero_cases.HALF).save(tmp_path)
    trained.engine.close()
    assert same_state(written, tmp_path)


def same_state(one, other):
    first, second = whole_state(one), whole_state(other)
    kinds = {kind for _, kind, _ in first}
    assert {"master", "frozen", "exp_avg", "exp_avg_sq", "step"} <= kinds
    assert first.keys() == second.keys()
    return all(torch.equal(value, second[key]) for key, value in first.items())
