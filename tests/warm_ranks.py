"""Ranks and commands forked from a warm process, for tests that are not about how these start.

A new process imports torch, transformers and DeepSpeed for six seconds before it is a rank; one
that is forked from a process that has them trains at once. All else is as in `launch.local`: a rank
is a process with its own environment, signals and exit code. The warm process is a fresh one, so
that it has neither the tests' import hook nor their threads.
"""

import atexit
import ctypes
import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

PRELOADED = (
    "launch.commands",
    "launch.rank",
    "launch.admission",
    "pretrain.build",
    "pretrain.checkpoint.group",
    "pretrain.engine",
    "transformers.models.bert.modeling_bert",
    "transformers.models.vit.modeling_vit",
)
"""What a rank imports late, and takes long."""

LONGEST_MESSAGE = 1 << 20
PR_SET_PDEATHSIG = 1


def run_warm(run: Path, ranks: int) -> int:
    """`launch.local.run_local`, with ranks that need not import anything."""
    return launch_warm(run, ranks, 2).wait()


def launch_warm(run: Path, ranks: int, errors: int) -> "Started":
    """The same, not waited for; `errors` is the descriptor of the file that takes its stderr."""
    return _start("run_local", [str(run), str(ranks)], errors)


def start_warm(words: Sequence[str]) -> "Started":
    """A `triptych` command; if it starts ranks, they need not import anything either."""
    return _start("triptych", words)


class Started:
    """A program that was forked from the warm process."""

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        self.pid = int(answers.recv(LONGEST_MESSAGE))

    def send_signal(self, number: signal.Signals) -> None:
        """To the program, not to its ranks."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = 600.0) -> int:
        """Its exit code; fails where it was killed."""
        self._answers.settimeout(timeout)
        with self._answers:
            return int(self._answers.recv(LONGEST_MESSAGE))


def _start(what: str, words: Sequence[str], errors: int = 2) -> Started:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {"what": what, "words": words, "environ": dict(os.environ), "folder": os.getcwd()}
    with theirs:
        warm, _ = _warm_process()
        socket.send_fds(warm, [json.dumps(request).encode()], [theirs.fileno(), 1, errors])
    return Started(ours)


@functools.cache
def _warm_process() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Made when first asked for; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import warm_ranks; warm_ranks.serve({theirs.fileno()})"],
            env=os.environ | paths,
            pass_fds=[theirs.fileno()],
        )
    return ours, process


def serve(descriptor: int) -> None:
    """What the warm process does: fork whatever is asked for, until nobody asks any more."""
    _die_with_parent()
    for name in PRELOADED:
        importlib.import_module(name)
    with socket.socket(fileno=descriptor) as requests:
        while True:
            text, descriptors, *_ = socket.recv_fds(requests, LONGEST_MESSAGE, 3)
            _reap()
            if not text:
                return
            if os.fork() == 0:
                requests.close()
                _do(json.loads(text), *descriptors)
            for number in descriptors:
                os.close(number)


def _reap() -> None:
    """Let go of the programs that have ended since the last one was asked for."""
    with suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _do(request: dict, answers: int, output: int, errors: int) -> None:
    """In the forked process: be the program that was asked for."""
    _die_with_parent()
    os.setsid()
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])
    from launch import __main__, local

    local.subprocess = SimpleNamespace(Popen=ForkedRank)
    words = request["words"]
    with socket.socket(fileno=answers) as told:
        told.send(str(os.getpid()).encode())
        if request["what"] == "run_local":
            code = exit_code(lambda: local.run_local(Path(words[0]), int(words[1])))
        else:
            code = exit_code(lambda: __main__.main(words))
        told.send(str(code).encode())
    os._exit(code)


class ForkedRank:
    """As much of `subprocess.Popen` as `launch.local` asks for, forked and not started anew."""

    def __init__(
        self,
        command: list[str],
        env: dict[str, str],
        start_new_session: bool,
        preexec_fn: Callable[[], None],
    ) -> None:
        assert command[:3] == [sys.executable, "-m", "launch.worker"]
        assert start_new_session
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            preexec_fn()
            os.environ.clear()
            os.environ.update(env)
            sys.argv = command[2:]
            from launch import worker

            os._exit(exit_code(worker.main))

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self) -> int | None:
        return self._ended(0)

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def exit_code(program: Callable[[], int | None]) -> int:
    """What Python would exit with after it had run a program, its last words said."""
    try:
        code = program()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code or 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
