"""Several captions, pictures and recordings of one thing, from a corpus to decoded tensors."""

import io
import json
import shutil
import tarfile

import pytest
import webdataset

from data_sharding.cleaning.reencode import EncodeConfig
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from data_sharding.schema import MAX_ALTERNATIVES, Record, Rejection
from data_sharding.sources import SourceConfig, open_source
from data_sharding.sources.rows import decode_row, encode_row
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.vocabulary import VocabularyConfig
from tiny_corpus import write_image, write_rows, write_tone

WORDS = StatsConfig(vocabulary=VocabularyConfig(vocab_size=80, min_frequency=1))


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        write_image(folder / f"{number}.png", number, size=(24 + number, 16))
        write_tone(folder / f"{number}.wav", number)
    rows = [
        {"id": "many", "text": ["a dog", "ein Hund", "a dog"], "image": ["0.png", "1.png"],
         "audio": ["0.wav", "1.wav", "2.wav"]},
        {"id": "one", "text": "a cat", "image": "2.png"},
        {"id": "named", "text": "red", "text.1": "rot", "text.3": "rouge"},
    ]  # fmt: skip
    write_rows(folder, rows)
    return folder


def sharded(corpus, config=None):
    out = corpus.parent / "shards"
    shard_corpus(corpus, out, config or ShardingConfig())
    return out


def read(shards):
    reader = ShardReader(ShardSet.open(shards))
    samples = [reader.read(number) for number in range(len(reader))]
    reader.close()
    return samples


def records(manifest, columns=None):
    source = open_source(str(manifest), SourceConfig(columns=columns or {}))
    return [row.content for row in source.rows()]


def test_alternatives_lie_beside_the_main_parts_in_their_order(corpus):
    many, one, named = read(sharded(corpus))
    assert list(many.members) == [
        "txt", "png", "wav", "json", "1.txt", "1.png", "1.wav", "2.wav",
    ]  # fmt: skip
    assert bytes(many.members["1.txt"]) == b"ein Hund"  # and "a dog" is not kept twice
    assert bytes(many.members["1.png"]) == (corpus / "1.png").read_bytes()
    assert list(one.members) == ["txt", "png", "json"]
    assert [bytes(named.members[name]) for name in ("txt", "1.txt", "2.txt")] == [
        b"red", b"rot", b"rouge",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_alternatives_as_fields_of_the_same_sample(corpus):
    tars = [str(path) for path in sharded(corpus).glob("*.tar")]
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
    assert len(theirs) == 3
    assert theirs[0]["1.txt"] == b"ein Hund"
    assert theirs[0]["2.wav"] == (corpus / "2.wav").read_bytes()


def test_they_are_decoded_when_asked_for_and_their_words_are_in_the_vocabulary(corpus):
    shards = sharded(corpus)
    compute_stats(shards, WORDS)
    many, one, _ = read(shards)
    tokenizer = shards / "stats" / "tokenizer.json"
    decoder = Decoder(tokenizer, DecodeConfig(alternatives=True))
    sample = decoder.decode(many)
    assert sample.text == "a dog"
    (hund,) = sample.alternatives["text"]
    assert decoder.tokenizer.decode(hund.tolist()) == "ein hund"
    assert [tuple(image.shape) for image in sample.alternatives["image"]] == [(3, 16, 25)]
    assert len(sample.alternatives["audio"]) == 2
    assert decoder.decode(one).alternatives == {}
    assert Decoder(tokenizer).decode(many).alternatives == {}


def test_shards_with_alternatives_can_be_sharded_again(corpus):
    first = sharded(corpus)
    again = first.parent / "again"
    shard_corpus(first / "shard-000000.tar", again, ShardingConfig())
    for old, new in zip(read(first), read(again), strict=True):
        parts = [{name: bytes(part) for name, part in s.members.items() if name != "json"}
                 for s in (old, new)]  # fmt: skip
        assert parts[0] == parts[1]


def test_they_are_checked_and_encoded_like_the_main_parts(corpus):
    encode = EncodeConfig(image_short_side=8, audio="flac16k")
    many = read(sharded(corpus, ShardingConfig(encode=encode)))[0]
    assert {"jpg", "1.jpg", "flac", "1.flac", "2.flac"} <= set(many.members)
    shutil.rmtree(corpus.parent / "shards")
    (corpus / "1.wav").write_bytes(b"no sound")
    shards = sharded(corpus, ShardingConfig(max_reject_share=1.0))
    ids = [json.loads(bytes(sample.members["json"]))["id"] for sample in read(shards)]
    assert ids == ["one", "named"]


def test_a_corpus_without_alternatives_has_the_rows_it_always_had():
    row = next(iter(records_of_one({"id": "a", "text": "b"})))
    assert b"alternatives" not in encode_row(row)
    other = next(iter(records_of_one({"id": "a", "text": ["b", "c"], "image": ["d", "e"]})))
    assert decode_row(encode_row(other)) == other


def records_of_one(fields):
    from data_sharding.sources.fields import record_or_rejection
    from data_sharding.sources.rows import Row

    yield Row(number=1, content=record_or_rejection(fields, 1, {}))


def test_columns_of_a_csv_are_mapped_to_alternatives(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("text,text_en,text_fr\nrot,red,rouge\n,blue,\ngelb,gelb,jaune\n")
    found = records(manifest, {"text.1": "text_en", "text.2": "text_fr"})
    assert all(isinstance(record, Record) for record in found)
    assert [(record.text, dict(record.alternatives)) for record in found] == [
        ("rot", {"text.1": "red", "text.2": "rouge"}),
        ("blue", {}),  # the first that there is becomes the text
        ("gelb", {"text.1": "jaune"}),
    ]


def test_too_many_and_misspelt_alternatives_are_named(tmp_path):
    texts = [f"caption {number}" for number in range(MAX_ALTERNATIVES + 2)]
    manifest = write_rows(tmp_path, [{"text": texts}, {"text": texts[1:]}])
    many, enough = records(manifest)
    assert isinstance(many, Rejection)
    assert "8 of text, a sample holds at most 7" in many.detail
    assert isinstance(enough, Record)
    with pytest.raises(ValueError, match=r"text\.1 to audio\.6"):
        SourceConfig(columns={"text.9": "caption"})


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"text": " ", "text.1": "hello there"}, ["hello there"]),
        ({"text": "hello dup", "text.1": "hello dup ", "text.2": "other"}, ["hello dup", "other"]),
        ({"text": ["\u3000", "caf\u00e9", "cafe\u0301", "\u2003tea"]}, ["caf\u00e9", "tea"]),
        ({"text": ["a", *[" "] * 9, "b"]}, ["a", "b"]),
        ({"text": "\n", "text.2": "\t", "image": "0.png"}, []),
    ],
)
def test_blank_and_repeated_texts_leave_no_gap(corpus, fields, texts):
    write_rows(corpus, [{"id": "x", **fields}])
    (sample,) = read(sharded(corpus))
    names = [name for name in sample.members if name.endswith("txt")]
    assert names == ["txt", "1.txt", "2.txt"][: len(texts)]
    assert [bytes(sample.members[name]).decode() for name in names] == texts


def test_a_tar_that_holds_a_text_under_a_number_alone_gives_it_as_the_text(corpus):
    first = corpus.parent / "first.tar"
    with tarfile.open(first, "w") as tar:
        for name, content in (("k.txt", b" "), ("k.2.txt", b"hello there")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    out = corpus.parent / "from-tar"
    shard_corpus(first, out, ShardingConfig())
    (sample,) = read(out)
    assert [name for name in sample.members if name.endswith("txt")] == ["txt"]
    assert bytes(sample.members["txt"]) == b"hello there"
