"""A process group of one gloo rank in this process, for tests that need the real engine."""

import socket

import pytest

from checkpoints import weights
from pretrain.checkpoint import CheckpointConfig, CheckpointWriter, OneRank, Progress

RENDEZVOUS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="session")
def process_group():
    """Where it was joined: once, because DeepSpeed cannot join a second time in one process."""
    from pretrain.engine import join_process_group, leave_process_group

    values = ("0", "1", "0", "127.0.0.1", str(free_port()))
    environment = dict(zip(RENDEZVOUS, values, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        join_process_group()
    yield environment
    leave_process_group()


@pytest.fixture
def one_rank(process_group, monkeypatch):
    """This process is the only rank; the engine looks for the variables again."""
    for name, value in process_group.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def writer_of():
    """Makes writers of a run; they are closed at the end."""
    made = []

    def make(run, expected_bytes=0, **config):
        writer = CheckpointWriter(run, OneRank(), CheckpointConfig(**config), expected_bytes)
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()


@pytest.fixture
def write(writer_of):
    """Writes one checkpoint and waits for it."""

    def written(run, step, part=None):
        writer = writer_of(run)
        writer.save(Progress(step, 64 * step), [part or weights()])
        [folder] = writer.wait()
        return folder

    return written
