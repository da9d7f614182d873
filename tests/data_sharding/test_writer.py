import json
import subprocess
import tarfile

import pytest
import webdataset

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from data_sharding.schema import PARTS
from data_sharding.writer import ustar_header
from tiny_corpus import write_corpus


def samples_of(folder):
    reader = ShardReader(ShardSet.open(folder))
    return [reader.read(sample_id) for sample_id in range(len(reader))]


# webdataset leaves its tars open for the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards_byte_for_byte(shards):
    tars = sorted(str(path) for path in shards.glob("*.tar"))
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
    ours = samples_of(shards)
    assert [sample["__key__"] for sample in theirs] == [sample.key for sample in ours]
    for their, our in zip(theirs, ours, strict=True):
        parts = {name: part for name, part in their.items() if not name.startswith("__")}
        assert parts == {name: bytes(part) for name, part in our.members.items()}


def test_gnu_tar_reads_the_shards_byte_for_byte(shards):
    tar = shards / "shard-000001.tar"
    listed = subprocess.run(["tar", "-tf", tar], capture_output=True, text=True, check=True)
    ours = [sample for sample in samples_of(shards) if sample.shard == tar.name]
    names = [f"{sample.key}.{suffix}" for sample in ours for suffix in sample.members]
    assert listed.stdout.split() == names
    assert listed.stderr == ""
    whole = subprocess.run(["tar", "-xOf", tar], capture_output=True, check=True).stdout
    assert whole == b"".join(bytes(part) for sample in ours for part in sample.members.values())


def test_headers_are_the_ones_that_pythons_tarfile_writes():
    for name, size in (("000000-000000.txt", 0), ("a" * 100, 8**11 - 1), ("k.json", 12345)):
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        theirs = tarfile.TarInfo.tobuf(info, tarfile.USTAR_FORMAT, "ascii", "strict")
        assert ustar_header(name, size) == theirs


def test_a_name_that_does_not_fit_a_header_is_refused():
    for name in ("", "a" * 101, "é"):
        with pytest.raises(ValueError, match=r"fit|ascii"):
            ustar_header(name, 1)


def test_the_sample_holds_the_files_of_the_corpus_unchanged(tmp_path):
    corpus = tmp_path / "corpus"
    write_corpus(corpus, 3)
    shard_corpus(corpus, tmp_path / "out", ShardingConfig())
    for sample in samples_of(tmp_path / "out"):
        card = json.loads(bytes(sample.members["json"]))
        number = card["id"].removeprefix("sample.")
        media = {suffix for suffix in sample.members if PARTS[suffix] in ("image", "audio")}
        assert len(media) == 2
        for suffix in media:
            assert sample.members[suffix] == (corpus / f"{number}.{suffix}").read_bytes()
        assert card["metadata"] == {"speaker": int(number)}


def test_each_shard_belongs_to_one_split(shards):
    whole = ShardSet.open(shards)
    assert whole.splits == ("test", "train")
    assert ShardSet.open(shards, "train").num_samples == 18
    assert ShardSet.open(shards, "test").num_samples == 6
    assert whole.present == {"text": 24, "image": 24, "audio": 24}
