"""Texts -> a WordPiece tokenizer in BERT's style; equal texts give an equal file."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Their places in this list are their ids; [PAD] is 0."""
CONTINUATION = "##"
ALPHABET_SHARE = 0.75
"""Most of the vocabulary that single characters may take; the rarest are left to [UNK]."""


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """How texts are cut into word pieces. Every script is kept."""

    vocab_size: int = 8_000
    """Most word pieces, special tokens included; a small corpus gives fewer."""

    min_frequency: int = 2
    """A longer piece must occur this often."""

    lowercase: bool = True
    """Treat upper and lower case alike."""

    strip_accents: bool = False
    """Drop accents and other combining marks; this also drops the vowels of Indic scripts."""

    def __post_init__(self) -> None:
        if self.vocab_size < 4 * len(SPECIAL_TOKENS):
            raise ValueError(f"vocabulary.vocab_size must be at least 20, got {self.vocab_size}")
        if self.min_frequency < 1:
            raise ValueError(f"vocabulary.min_frequency must be positive, got {self.min_frequency}")


def train_tokenizer(texts: Sequence[str], config: VocabularyConfig) -> Tokenizer:
    """Trains a WordPiece vocabulary.

    The library's trainer numbers the characters in the order of a randomly seeded hash map, and
    breaks ties by these numbers. Given as special tokens, in sorted order, the characters get fixed
    numbers, and two runs agree; the tokenizer returned has only BERT's special tokens.
    """
    tokenizer = _untrained(models.WordPiece(unk_token="[UNK]"), config)
    characters, symbols = _alphabet(_words(tokenizer, texts), config.vocab_size)
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(config.vocab_size, len(SPECIAL_TOKENS) + len(symbols)),
        min_frequency=config.min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *symbols],
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    in_order = sorted(pieces, key=lambda piece: pieces[piece])
    vocabulary = {piece: number for number, piece in enumerate(in_order)}
    trained = _untrained(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"), config)
    return _with_bert_template(trained)


def _untrained(model: models.WordPiece, config: VocabularyConfig) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.BertNormalizer(
                clean_text=True,
                handle_chinese_chars=True,
                strip_accents=config.strip_accents,
                lowercase=config.lowercase,
            ),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _with_bert_template(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIAL_TOKENS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    return tokenizer


def _words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text)
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    return counts


def _alphabet(words: Counter[str], vocab_size: int) -> tuple[list[str], list[str]]:
    """The most frequent characters, and the pieces of one character that they occur as."""
    counts: Counter[str] = Counter()
    occurs_as: dict[str, set[str]] = {}
    for word, count in words.items():
        for place, character in enumerate(word):
            counts[character] += count
            symbol = CONTINUATION + character if place else character
            occurs_as.setdefault(character, set()).add(symbol)
    room = int(vocab_size * ALPHABET_SHARE) - len(SPECIAL_TOKENS)
    kept: list[str] = []
    for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        # The trainer also lists a character that only ever continues words as a word's start.
        room -= len(occurs_as[character] | {character})
        if room < 0:
            break
        kept.append(character)
    symbols = {symbol for character in kept for symbol in occurs_as[character] | {character}}
    return sorted(kept), sorted(symbols)
