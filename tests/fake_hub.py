"""A web server that speaks enough of the Hugging Face Hub's protocol for a commit and a download.

Written after huggingface_hub's own client (`hf_api.py`, `_commit_api.py`, `lfs.py`): preupload,
Git LFS batch and upload, NDJSON commit with `parentCommit`.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = "ann/small"
TOKEN = "hf_test"


class Hub(ThreadingHTTPServer):
    """One repository. `dies_at` names a request whose connection breaks half-way."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {".gitattributes": b""}
        self.commits = ["0" * 40]
        self.stored: dict[str, bytes] = {}  # LFS objects by oid; no file until a commit names them
        self.dies_at: str | None = None
        self.requests: list[str] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, lines):
        """Apply a commit, all of it or nothing; returns (status, answer)."""
        header, *changes = [json.loads(line) for line in lines]
        if header["value"].get("parentCommit", self.commits[-1]) != self.commits[-1]:
            return 412, {"error": "A commit has happened since. Please refresh and try again."}
        files = dict(self.files)
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                if value["oid"] not in self.stored:
                    return 400, {"error": f"LFS object {value['oid']} was never uploaded"}
                files[value["path"]] = self.stored[value["oid"]]
            elif change["key"] == "deletedFile":
                del files[value["path"]]
        self.files = files
        self.commits.append(hashlib.sha1(json.dumps(sorted(files)).encode()).hexdigest())
        oid = self.commits[-1]
        return 200, {"commitUrl": f"{self.url}/{REPO}/commit/{oid}", "commitOid": oid}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith("/api/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid credentials"})
        if path == "/api/whoami-v2":
            return self._answer(200, {"type": "user", "name": "ann", "auth": {}})
        if path in (f"/api/models/{REPO}", f"/api/models/{REPO}/revision/main"):
            names = [{"rfilename": name} for name in sorted(self.server.files)]
            answer = {"id": REPO, "modelId": REPO, "sha": self.server.commits[-1]}
            return self._answer(200, answer | {"siblings": names, "tags": [], "private": False})
        if path == f"/api/models/{REPO}/tree/{self.server.commits[-1]}":
            return self._answer(200, [entry(*file) for file in sorted(self.server.files.items())])
        revision, _, name = path.removeprefix(f"/{REPO}/resolve/").partition("/")
        if revision in ("main", self.server.commits[-1]) and name in self.server.files:
            return self._file(self.server.files[name])
        return self._answer(404, {"error": "not found"}, "RepoNotFound")

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        path = self.path.partition("?")[0]
        body = self._body(path)
        if body is None:
            return None
        self.server.requests.append(path)
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == f"/api/models/{REPO}/preupload/main":
            return self._answer(200, {"files": [mode(f) for f in json.loads(body)["files"]]})
        if path == f"/{REPO}.git/info/lfs/objects/batch":
            objects = [self._upload_of(entry) for entry in json.loads(body)["objects"]]
            return self._answer(200, {"transfer": "basic", "objects": objects})
        if path == f"/api/models/{REPO}/commit/main":
            return self._answer(*self.server.commit(body.decode().splitlines()))
        return self._answer(404, {"error": "not found"})

    def do_PUT(self):
        body = self._body(self.path)
        if body is None:
            return None
        self.server.requests.append("PUT")
        oid = self.path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            return self._answer(400, {"error": "wrong sum"})
        self.server.stored[oid] = body
        return self._answer(200, {})

    def _upload_of(self, entry):
        if entry["oid"] in self.server.stored:
            return entry
        return entry | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{entry['oid']}"}}}

    def _body(self, path):
        """What was sent; None where the connection dies half-way."""
        length = int(self.headers.get("Content-Length", 0))
        if self.server.dies_at is not None and self.server.dies_at in path:
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return None
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(length)

    def _file(self, content):
        """A file, or what a download asks of it first."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commits[-1])
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _answer(self, status, content, error_code=None):
        self._send(status, json.dumps(content).encode(), "application/json", error_code)

    def _send(self, status, content, kind, error_code=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if error_code:
            self.send_header("X-Error-Code", error_code)
        self.end_headers()
        self.wfile.write(content)


def entry(name, content):
    """A file as a listing of the repository tells it."""
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}


def mode(file):
    """Weights go as LFS objects, the rest inside the commit."""
    kind = "lfs" if file["path"].endswith(".safetensors") else "regular"
    return {"path": file["path"], "uploadMode": kind, "shouldIgnore": False, "oid": None}


@contextmanager
def running_hub():
    """A hub on loopback, until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join(timeout=10.0)
