"""The WordPiece tokenizer of a local transformers checkpoint, for texts read with its weights."""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from data_sharding.vocabulary import CONTINUATION, SPECIAL_TOKENS

TOKENIZER_JSON, VOCAB_TXT = "tokenizer.json", "vocab.txt"
TOKENIZER_CONFIG = "tokenizer_config.json"
PROBE = "a dog"
"""A text to see what a tokenizer puts around one."""


def has_tokenizer(folder: Path) -> bool:
    """Whether `checkpoint_tokenizer` would find one."""
    return (folder / TOKENIZER_JSON).is_file() or (folder / VOCAB_TXT).is_file()


def checkpoint_tokenizer(location: Path) -> Tokenizer:
    """Reads ``tokenizer.json``, or builds what BertTokenizer makes of ``vocab.txt``.

    Cutting and padding to a length, which some files ask for, are switched off.

    Args:
        location: Folder of a checkpoint, or one of the two files.

    Raises:
        ValueError: There is none, it is malformed, or nothing here can be trained with it: it is
            no WordPiece, lacks one of BERT's special tokens, leaves ids out, or does not put
            ``[CLS]`` before a text and ``[SEP]`` after it.
    """
    path = location
    if location.is_dir():
        names = (name for name in (TOKENIZER_JSON, VOCAB_TXT) if (location / name).is_file())
        path = location / next(names, TOKENIZER_JSON)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no tokenizer can be read: {error}") from error
    tokenizer = _from_vocabulary(path) if path.suffix == ".txt" else _from_json(path, text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _refuse_gaps(path, tokenizer)
    _refuse_other_frame(path, tokenizer)
    return tokenizer


def _from_json(path: Path, text: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path}: no tokenizer: {error}") from error
    _refuse_other_models(path, tokenizer)
    _refuse_lacking(path, [name for name in SPECIAL_TOKENS if tokenizer.token_to_id(name) is None])
    return tokenizer


def _from_vocabulary(path: Path) -> Tokenizer:
    """BERT's tokenizer over a vocabulary with one piece a line, read as transformers reads it.

    A line ends at a line feed alone, and blanks at its end do not count.
    """
    vocabulary = models.WordPiece.read_file(str(path))
    _refuse_lacking(path, [name for name in SPECIAL_TOKENS if name not in vocabulary])
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    how = _Normalization.of(path.parent)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=how.tokenize_chinese_chars,
        strip_accents=how.strip_accents,
        lowercase=how.do_lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class _Normalization:
    """BertTokenizer's options of these names, and its defaults."""

    do_lower_case: bool = True
    strip_accents: bool | None = None
    """None: where letters are made lower case."""
    tokenize_chinese_chars: bool = True

    @classmethod
    def of(cls, folder: Path) -> "_Normalization":
        """What the checkpoint says; the default where it says nothing.

        Raises:
            ValueError: ``tokenizer_config.json`` is malformed.
        """
        path = folder / TOKENIZER_CONFIG
        if not path.is_file():
            return cls()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: malformed: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path}: malformed: it is no object")
        said = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        for name, value in said.items():
            if not isinstance(value, bool) and (value is not None or name != "strip_accents"):
                raise ValueError(f"{path}: {name} must be true or false, got {value!r}")
        return cls(**said)


def _refuse_lacking(path: Path, lacking: list[str]) -> None:
    if lacking:
        raise ValueError(f"{path}: has no {', '.join(lacking)}, which the views need")


def _refuse_other_models(path: Path, tokenizer: Tokenizer) -> None:
    model = tokenizer.model
    if not isinstance(model, models.WordPiece):
        raise ValueError(
            f"{path}: its model is {type(model).__name__}; text encoders here read WordPiece alone"
        )
    if model.continuing_subword_prefix != CONTINUATION:
        raise ValueError(
            f"{path}: pieces inside a word begin with {model.continuing_subword_prefix!r}; "
            f"{CONTINUATION!r} is needed"
        )
    if tokenizer.token_to_id(model.unk_token) is None:
        raise ValueError(f"{path}: what it does not know is {model.unk_token!r}, which has no id")


def _refuse_gaps(path: Path, tokenizer: Tokenizer) -> None:
    """A table of word vectors has a row for each piece, and the ids are its rows."""
    ids = set(tokenizer.get_vocab(with_added_tokens=True).values())
    if len(ids) != tokenizer.get_vocab_size() or max(ids) + 1 != len(ids):
        raise ValueError(
            f"{path}: {tokenizer.get_vocab_size()} pieces with ids up to {max(ids)}; ids must run "
            "from 0 with no gap and none twice"
        )


def _refuse_other_frame(path: Path, tokenizer: Tokenizer) -> None:
    first, last = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    empty, text = tokenizer.encode("").ids, tokenizer.encode(PROBE).ids
    if empty != [first, last] or len(text) < 3 or [text[0], text[-1]] != [first, last]:
        raise ValueError(
            f"{path}: does not put [CLS] ({first}) before a text and [SEP] ({last}) after it: an "
            f"empty text becomes {empty}, {PROBE!r} becomes {text}"
        )
