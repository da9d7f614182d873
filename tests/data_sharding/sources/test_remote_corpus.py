"""Every kind of corpus, read from an S3 server and a web server on loopback as from a disk."""

import http.server
import io
import json
import tarfile
import threading
from functools import partial

import pyarrow as pa
import pytest
from pyarrow import parquet

from data_sharding.cleaning.clean import CleanConfig, check_record
from data_sharding.retry import RetryConfig
from data_sharding.schema import Rejection
from data_sharding.sources import SourceConfig, open_source
from tiny_corpus import write_corpus, write_image
from tiny_shards import served

CONFIG = CleanConfig(retry=RetryConfig(attempts=2, first_wait_seconds=0.0))
KINDS = ("rows.jsonl", "rows.csv", "rows.parquet", "", "files", "tars", "tars/x-{000..001}.tar")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Six samples as manifests of all kinds, as a folder of files and as tars."""
    folder = tmp_path_factory.mktemp("corpora")
    manifest = write_corpus(folder, 6)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    (folder / "rows.jsonl").write_bytes(manifest.read_bytes())
    names = ("id", "text", "image", "audio")
    lines = [",".join(names), *(",".join(row[name] for name in names) for row in rows)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    parquet.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    (folder / "files" / "inner").mkdir(parents=True)
    (folder / "tars").mkdir()
    for number in range(2):
        with tarfile.open(folder / "tars" / f"x-{number:03d}.tar", "w") as tar:
            for row in rows[3 * number : 3 * number + 3]:
                _add_sample(folder, tar, row)
    return folder


def _add_sample(folder, tar, row):
    key = row["id"].replace(".", "-")
    members = {"txt": row["text"].encode()}
    for kind in ("image", "audio"):
        members[row[kind].rpartition(".")[2]] = (folder / row[kind]).read_bytes()
    for suffix, content in members.items():
        (folder / "files" / "inner" / f"{key}.{suffix}").write_bytes(content)
        info = tarfile.TarInfo(f"{key}.{suffix}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def bucket(corpora, object_store):
    """The corpora in an object store."""
    object_store.create_bucket(Bucket="corpora")
    for path in corpora.rglob("*.*"):
        name = path.relative_to(corpora).as_posix()
        object_store.upload_file(str(path), "corpora", f"all/{name}")
    return "s3://corpora/all"


class ListingHandler(http.server.SimpleHTTPRequestHandler):
    """Lists folders, as a plain web server does."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def listing(corpora):
    handler = partial(ListingHandler, directory=str(corpora))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(timeout=10.0)


def samples(location):
    source = open_source(location.rstrip("/"), SourceConfig())
    rows = list(source.rows())
    assert [row.number for row in rows] == list(range(1, 7))
    return [(row, check_record(row.content, source.root, CONFIG).members) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_in_an_object_store_reads_as_on_disk(corpora, bucket, kind):
    assert samples(f"{bucket}/{kind}") == samples(f"{corpora}/{kind}")
    here = open_source(f"{corpora}/{kind}".rstrip("/"), SourceConfig()).fingerprint()
    there = open_source(f"{bucket}/{kind}".rstrip("/"), SourceConfig()).fingerprint()
    assert [list(entry.values())[1:] for entry in here] == [
        list(entry.values())[1:] for entry in there
    ]


@pytest.mark.parametrize("kind", ["rows.jsonl", "rows.csv", "tars/x-{000..001}.tar"])
def test_a_corpus_on_a_web_server_reads_as_on_disk(corpora, kind):
    with served(corpora) as server:
        assert samples(f"{server.url}/{kind}") == samples(f"{corpora}/{kind}")


@pytest.mark.parametrize("kind", ["", "files"])
def test_folders_on_a_web_server_that_lists_them_read_as_on_disk(corpora, listing, kind):
    assert samples(f"{listing}/{kind}") == samples(f"{corpora}/{kind}")


def test_a_local_manifest_may_name_media_in_an_object_store(corpora, bucket, tmp_path):
    write_image(tmp_path / "0.jpg", 99)  # the store's picture is meant, not this one
    manifest = tmp_path / "rows.csv"
    manifest.write_text(f"image\n0.jpg\n{bucket}/0.jpg\n../0.jpg\ns3://other/0.jpg\ngone.jpg\n")
    source = open_source(str(manifest), SourceConfig(media_root=bucket))
    found = []
    for row in source.rows():
        try:
            found.append(check_record(row.content, source.root, CONFIG).members["jpg"])
        except Rejection as rejection:
            found.append(rejection.reason)
    picture = (corpora / "0.jpg").read_bytes()
    assert found == [picture, picture, "outside-corpus", "missing-file", "missing-file"]


def test_a_remote_corpus_that_is_not_there_is_refused_by_name(bucket, listing):
    for location in (f"{bucket}/gone.csv", f"{listing}/gone.csv", f"{bucket}/gone"):
        with pytest.raises(ValueError, match=location):
            open_source(location, SourceConfig())
    with pytest.raises(ValueError, match=r"stands for 3 tars, but .*x-002.tar is missing"):
        open_source(f"{bucket}/tars/x-{{000..002}}.tar", SourceConfig())
