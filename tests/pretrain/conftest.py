"""A process group of one gloo rank in this process, for tests that need the real engine."""

import socket

import pytest

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
