import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.logmel import LogMel, LogMelConfig
from data_sharding.schema import ShardError
from data_sharding.stats import CorpusStats, StatsConfig, compute_stats
from data_sharding.vocabulary import VocabularyConfig, train_tokenizer
from tiny_corpus import write_corpus, write_rows

TEXTS = ["Red café, red KAFFEE", "кот и кит", "花が咲く", "नमस्ते दुनिया", "Çiçek çiçek", "مرحبا"] * 3

TRAIN = """
import hashlib, sys
from data_sharding.vocabulary import VocabularyConfig, train_tokenizer
texts = open(sys.argv[1], encoding="utf-8").read().splitlines()
tokenizer = train_tokenizer(texts, VocabularyConfig(vocab_size=150, min_frequency=1))
print(hashlib.sha256(tokenizer.to_str(pretty=True).encode()).hexdigest())
"""


def tokenizer_of(**settings):
    return train_tokenizer(TEXTS, VocabularyConfig(min_frequency=1, **settings))


def test_the_vocabulary_is_the_same_in_every_process(tmp_path):
    # Many ties between frequencies, which the library alone breaks at random.
    words = [f"{a}{b}{c}" for a in "abcdef" for b in "ghijkl" for c in "mnopqr"]
    lines = "\n".join(" ".join(words[at : at + 9]) for at in range(0, len(words), 9))
    (tmp_path / "texts").write_text(lines, encoding="utf-8")
    command = [sys.executable, "-c", TRAIN, tmp_path / "texts"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    texts = lines.splitlines()
    ours = train_tokenizer(texts, VocabularyConfig(vocab_size=150, min_frequency=1))
    assert done.stdout.strip() == hashlib.sha256(ours.to_str(pretty=True).encode()).hexdigest()


def test_special_tokens_stand_where_bert_has_them():
    tokenizer = tokenizer_of()
    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert [tokenizer.token_to_id(name) for name in names] == [0, 1, 2, 3, 4]
    assert tokenizer.encode("red").tokens == ["[CLS]", "red", "[SEP]"]
    assert tokenizer.encode("red", "кот").type_ids == [0, 0, 0, 1, 1]


def test_ids_have_no_gaps_and_the_file_reads_back_the_same():
    tokenizer = tokenizer_of()
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    copy = Tokenizer.from_str(tokenizer.to_str())
    assert [copy.encode(text).ids for text in TEXTS] == [tokenizer.encode(t).ids for t in TEXTS]


def test_every_script_is_kept():
    tokenizer = tokenizer_of()
    for text in TEXTS:
        assert "[UNK]" not in tokenizer.encode(text).tokens
    assert tokenizer.encode("दुनिया").tokens == ["[CLS]", "दुनिया", "[SEP]"]


def test_case_and_accents_follow_the_settings():
    lower, exact = tokenizer_of(), tokenizer_of(lowercase=False)
    stripped = tokenizer_of(strip_accents=True)
    assert lower.encode("RED").ids == lower.encode("red").ids
    assert exact.encode("Red").ids != exact.encode("red").ids
    assert lower.encode("café").ids != lower.encode("cafe").ids
    assert stripped.encode("café").ids == stripped.encode("cafe").ids


def test_a_composed_and_a_decomposed_accent_are_the_same_token():
    tokenizer = tokenizer_of()
    assert tokenizer.encode("cafe\u0301").ids == tokenizer.encode("caf\u00e9").ids


def test_a_small_vocabulary_keeps_its_size_whatever_the_script():
    characters = [chr(0x4E00 + number) for number in range(500)]
    tokenizer = train_tokenizer(characters, VocabularyConfig(vocab_size=100, min_frequency=1))
    assert tokenizer.get_vocab_size() <= 100


def test_image_statistics_are_exact_for_known_pictures(tmp_path):
    Image.new("RGB", (4, 4), (0, 51, 255)).save(tmp_path / "a.png")
    Image.new("RGB", (90, 8), (255, 51, 255)).save(tmp_path / "b.png")
    Image.new("RGB", (9, 9), (9, 9, 9)).save(tmp_path / "t.png")
    rows = [{"image": "a.png"}, {"image": "b.png"}, {"image": "t.png", "split": "test"}]
    write_rows(tmp_path, rows)
    shard_corpus(tmp_path, tmp_path / "out", ShardingConfig())
    stats = compute_stats(tmp_path / "out", StatsConfig())
    assert stats.image_mean == pytest.approx((0.5, 0.2, 1.0))
    assert stats.image_std == pytest.approx((0.5, 1e-3, 1e-3))
    assert (stats.mel_mean, stats.mel_std, stats.num_samples) == (0.0, 1.0, 2)
    assert stats.vocab_size == 5


def test_statistics_are_saved_with_the_set_and_read_back(shards):
    stats = CorpusStats.load(shards / "stats")
    assert stats.num_samples == 18
    assert stats.mel_std > 0.1
    tokenizer = Tokenizer.from_file(str(shards / "stats" / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == stats.vocab_size


def test_two_passes_give_the_same_files(tmp_path):
    write_corpus(tmp_path / "corpus", 8)
    files = []
    for name in "ab":
        shard_corpus(tmp_path / "corpus", tmp_path / name, ShardingConfig())
        compute_stats(tmp_path / name, StatsConfig())
        folder = tmp_path / name / "stats"
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {"tokenizer.json", "stats.json"}


def test_missing_or_malformed_statistics_are_named(tmp_path):
    with pytest.raises(ShardError, match="triptych stats"):
        CorpusStats.load(tmp_path)
    (tmp_path / "stats.json").write_text("{}")
    with pytest.raises(ShardError, match="malformed"):
        CorpusStats.load(tmp_path)


def test_a_tone_is_loudest_in_its_own_mel_channel():
    log_mel = LogMel(LogMelConfig())
    time = torch.arange(16_000) / 16_000
    low, high = (log_mel(torch.sin(2 * torch.pi * hz * time)).mean(-1) for hz in (200, 4000))
    assert low.argmax() < high.argmax()
    assert log_mel(torch.zeros(2, 3, 16_000)).shape == (2, 3, 64, 101)
    assert np.allclose(log_mel(torch.zeros(4000)), np.log(1e-6))


def test_a_mel_range_beyond_half_the_sample_rate_is_refused():
    with pytest.raises(ValueError, match="half the sample rate"):
        LogMelConfig(sample_rate_hz=8_000)
