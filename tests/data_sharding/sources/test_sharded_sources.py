"""Corpora of every kind, good rows and bad ones, through the whole job."""

import json
import tarfile

import pytest

from data_sharding.cleaning.reencode import EncodeConfig
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.finish import REJECTS_FILE
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from data_sharding.sources import SourceConfig
from tiny_corpus import write_corpus

LENIENT = ShardingConfig(max_reject_share=1.0)


def members_of(folder):
    """Every sample's members without the card, by its text."""
    shard_set = ShardSet.open(folder)
    reader = ShardReader(shard_set)
    raw = [reader.read(number) for number in range(shard_set.num_samples)]
    reader.close()
    return {
        bytes(sample.members["txt"]): {
            suffix: bytes(content) for suffix, content in sample.members.items() if suffix != "json"
        }
        for sample in raw
    }


def test_the_good_rows_go_on_and_the_bad_ones_are_listed(tmp_path):
    corpus = tmp_path / "corpus"
    manifest = write_corpus(corpus, 6)
    (corpus / "1.png").write_bytes(b"no picture")
    with manifest.open("ab") as file:
        file.write(b'{"id": "bytes", "text": "\xff\xfe"}\n')
        file.write(b'{"id": "surrogate", "text": "\\ud800"}\n')
        file.write(b"not json\n")
        file.write(b'{"id": "nested", "text": [["a"]]}\n')
        file.write(b'{"id": "nan", "text": "a", "metadata": {"x": NaN}}\n')
    report = shard_corpus(corpus, tmp_path / "out", LENIENT)
    lines = (tmp_path / "out" / REJECTS_FILE).read_text().splitlines()
    rejects = [json.loads(line) for line in lines]
    assert report.num_samples == 5
    assert {(reject["row"], reject["id"], reject["reason"]) for reject in rejects} == {
        (2, "sample.1", "not-an-image"),
        (7, None, "invalid-utf8"),
        (8, None, "invalid-utf8"),
        (9, None, "bad-row"),
        (10, None, "bad-row"),
        (11, None, "bad-row"),
    }
    assert report.rejects == {"bad-row": 3, "invalid-utf8": 2, "not-an-image": 1}


def test_a_folder_and_tars_of_the_same_files_become_the_same_samples(tmp_path):
    manifest = write_corpus(tmp_path / "corpus", 6)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        (tmp_path / "corpus" / f"{row['image'][0]}.txt").write_text(row["text"], encoding="utf-8")
    shard_corpus(manifest, tmp_path / "from-manifest", LENIENT)
    folder = ShardingConfig(source=SourceConfig(layout="folder"))
    shard_corpus(tmp_path / "corpus", tmp_path / "from-folder", folder)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for path in sorted((tmp_path / "corpus").glob("[0-9].*")):
            tar.add(path, path.name)
    shard_corpus(tmp_path / "x.tar", tmp_path / "from-tar", LENIENT)
    expected = members_of(tmp_path / "from-manifest")
    assert len(expected) == 6
    assert members_of(tmp_path / "from-folder") == expected
    assert members_of(tmp_path / "from-tar") == expected


def test_shards_are_a_corpus_themselves(tmp_path):
    write_corpus(tmp_path / "corpus", 6)
    shard_corpus(tmp_path / "corpus", tmp_path / "first", LENIENT)
    smaller = ShardingConfig(
        source=SourceConfig(layout="tars"), encode=EncodeConfig(image_short_side=8)
    )
    shard_corpus(tmp_path / "first", tmp_path / "second", smaller)
    first, second = members_of(tmp_path / "first"), members_of(tmp_path / "second")
    assert first.keys() == second.keys()
    assert all("jpg" in members for members in second.values())
    reader = ShardReader(ShardSet.open(tmp_path / "second"))
    card = json.loads(bytes(reader.read(0).members["json"]))
    reader.close()
    assert card["id"].startswith("sample.")
    assert card["labels"].keys() == {"colour"}


def test_a_mapping_that_fits_no_row_is_refused_and_leaves_nothing(tmp_path):
    write_corpus(tmp_path / "corpus", 2)
    wrong = ShardingConfig(source=SourceConfig(columns={"image": "picture"}))
    with pytest.raises(ValueError, match="no column 'picture'; it has"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()
