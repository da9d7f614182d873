"""Shard sets of random bytes, written without a sharding job, and a web server for them."""

import http.server
import random
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from data_sharding.manifest import Generation, ShardEntry, ShardSet, write_manifest
from data_sharding.retry import RetryConfig
from data_sharding.writer import ShardWriter

QUICK = RetryConfig(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02)


def members_of(number: int, media_bytes: int = 3000) -> dict[str, bytes]:
    rng = random.Random(number)
    return {
        "txt": f"caption {number}".encode(),
        "jpg": rng.randbytes(media_bytes + rng.randint(0, 100)),
        "flac": rng.randbytes(media_bytes // 2),
        "json": f'{{"id":"{number}"}}'.encode(),
    }


def write_set(
    folder: Path, sizes: tuple[int, ...] = (7, 5, 6), media_bytes: int = 3000
) -> ShardSet:
    """Sample n of the set has `members_of(n)`."""
    folder.mkdir(parents=True)
    entries: list[ShardEntry] = []
    first = 0
    for number, size in enumerate(sizes):
        with ShardWriter(folder, number) as writer:
            for sample in range(first, first + size):
                writer.add(members_of(sample, media_bytes))
            entries.append(writer.publish(folder, "train"))
        first += size
    write_manifest(folder, entries, [Generation(num_shards=len(entries))])
    return ShardSet.open(folder)


def content(raw) -> dict[str, bytes]:
    return {suffix: bytes(part) for suffix, part in raw.members.items()}


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with byte ranges; `server.failures` requests fail first."""

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def log_message(self, *arguments):
        pass

    def _answer(self, with_body):
        server = self.server
        wanted = self.headers.get("Range")
        if with_body:
            server.requests.append((Path(self.path).name, wanted))
        if not server.hold.wait(timeout=20.0) or server.take_failure():
            self.send_error(server.failure_code)
            return
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first, last = 0, size - 1
        if wanted and server.knows_ranges:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if wanted and server.knows_ranges else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Accept-Ranges", "bytes")
        if wanted and server.knows_ranges:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if with_body:
            with path.open("rb") as file:
                file.seek(first)
                self.wfile.write(file.read(last + 1 - first))


class RangeServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), partial(RangeHandler, directory=str(folder)))
        self.requests: list[tuple[str, str | None]] = []
        self.failures = 0
        self.failure_code = 503
        self.knows_ranges = True
        self.hold = threading.Event()
        self.hold.set()
        self._lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take_failure(self):
        with self._lock:
            self.failures -= 1
            return self.failures >= 0

    def fetched(self, name):
        """Ranges of a file that were asked for."""
        return [wanted for path, wanted in self.requests if path == name]


@contextmanager
def served(folder):
    """A web server on loopback, until the block ends."""
    server = RangeServer(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10.0)
