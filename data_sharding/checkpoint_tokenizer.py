"""The WordPiece tokenizer of a local transformers checkpoint, for texts read with its weights."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data_sharding.vocabulary import CONTINUATION, SPECIAL_TOKENS

TOKENIZER_JSON, VOCAB_TXT = "tokenizer.json", "vocab.txt"


def has_tokenizer(folder: Path) -> bool:
    """Whether `checkpoint_tokenizer` would find one."""
    return (folder / TOKENIZER_JSON).is_file() or (folder / VOCAB_TXT).is_file()


def checkpoint_tokenizer(location: Path) -> Tokenizer:
    """Reads ``tokenizer.json``, or builds what BertTokenizer makes of ``vocab.txt``.

    Cutting and padding to a length, which some files ask for, are switched off.

    Args:
        location: Folder of a checkpoint, or one of the two files.

    Raises:
        ValueError: There is none, it is malformed, or it lacks one of BERT's special tokens.
    """
    path = location
    if location.is_dir():
        names = (name for name in (TOKENIZER_JSON, VOCAB_TXT) if (location / name).is_file())
        path = location / next(names, TOKENIZER_JSON)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no tokenizer can be read: {error}") from error
    if path.suffix == ".txt":
        tokenizer = _from_vocabulary(path, text.splitlines())
    else:
        tokenizer = _from_json(path, text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _from_json(path: Path, text: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path}: no tokenizer: {error}") from error
    _refuse_lacking(path, [name for name in SPECIAL_TOKENS if tokenizer.token_to_id(name) is None])
    return tokenizer


def _from_vocabulary(path: Path, pieces: list[str]) -> Tokenizer:
    """BERT's tokenizer over a vocabulary with one piece a line."""
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    _refuse_lacking(path, [name for name in SPECIAL_TOKENS if name not in vocabulary])
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=_is_lowercase(path.parent))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    return tokenizer


def _is_lowercase(folder: Path) -> bool:
    """What the checkpoint says; BertTokenizer's default where it says nothing.

    Raises:
        ValueError: ``tokenizer_config.json`` is malformed.
    """
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return True
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("do_lower_case", True))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path}: malformed: {error}") from error


def _refuse_lacking(path: Path, lacking: list[str]) -> None:
    if lacking:
        raise ValueError(f"{path}: has no {', '.join(lacking)}, which the views need")
