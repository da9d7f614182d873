"""A corpus behind TLS; a process of its own, because aiohttp reads certificates once."""

import datetime
import http.server
import ipaddress
import os
import ssl
import subprocess
import sys
import threading
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from data_sharding.job import ShardingConfig, shard_corpus
from tiny_corpus import write_corpus

SHARD = """
import sys
from pathlib import Path
from data_sharding.job import ShardingConfig, shard_corpus
print(shard_corpus(sys.argv[1], Path(sys.argv[2]), ShardingConfig()).digest)
"""


@pytest.fixture
def certificate(tmp_path):
    """A key and a certificate for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "server.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_corpus_behind_https_gives_the_digest_of_the_one_on_disk(tmp_path, certificate):
    write_corpus(tmp_path / "corpus", 4)
    here = shard_corpus(tmp_path / "corpus", tmp_path / "here", ShardingConfig())
    handler = partial(Quiet, directory=str(tmp_path / "corpus"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"https://127.0.0.1:{server.server_port}/manifest.jsonl"
        done = subprocess.run(
            [sys.executable, "-c", SHARD, url, str(tmp_path / "there")],
            env={**os.environ, "SSL_CERT_FILE": str(certificate)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == here.digest
    finally:
        server.shutdown()
        server.server_close()
