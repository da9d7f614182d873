"""What the text views must know of a tokenizer; picklable, and free of the tokenizer itself."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer

MASK_TOKENS = ("[MASK]", "<mask>")


@dataclass(frozen=True, kw_only=True)
class TextVocabulary:
    """Which ids are special, which continue a word, and which runs of ids are protected.

    Attributes:
        mask_id: Of the token that stands for a hidden one.
        special: True for [PAD], [UNK], [CLS], [SEP], [MASK] and whatever else the file calls so.
        continuation: True for pieces that go on with a word (``##ing``).
        protected: Runs of ids that stay as they are: a word may be several pieces, and "don't"
            is three tokens.
    """

    mask_id: int
    special: Bool[np.ndarray, " vocab"]
    continuation: Bool[np.ndarray, " vocab"]
    protected: frozenset[tuple[int, ...]] = frozenset()

    @classmethod
    def load(cls, tokenizer_file: Path, protected_words: Iterable[str] = ()) -> "TextVocabulary":
        """Reads a ``tokenizer.json``.

        Args:
            tokenizer_file: A WordPiece tokenizer.
            protected_words: Words of any language; those that the vocabulary cannot write are
                passed over, since no text can hold them.

        Raises:
            ValueError: It is no WordPiece tokenizer, or has no mask token.
        """
        content = json.loads(tokenizer_file.read_text(encoding="utf-8"))
        model = content["model"]
        if model.get("type", "WordPiece") != "WordPiece":
            raise ValueError(
                f"{tokenizer_file}: the text views need a WordPiece tokenizer, this is "
                f"{model['type']}"
            )
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        pieces = tokenizer.get_vocab(with_added_tokens=True)
        special = {token["content"] for token in content["added_tokens"] if token["special"]}
        mask = next((token for token in MASK_TOKENS if token in special), None)
        if mask is None:
            raise ValueError(f"{tokenizer_file} has no special token {' or '.join(MASK_TOKENS)}")
        prefix = model["continuing_subword_prefix"]
        runs = (tokenizer.encode(word, add_special_tokens=False) for word in protected_words)
        return cls(
            mask_id=pieces[mask],
            special=_flags(pieces, special),
            continuation=_flags(pieces, {p for p in pieces if p.startswith(prefix)} - special),
            protected=frozenset(
                tuple(run.ids) for run in runs if run.ids and special.isdisjoint(run.tokens)
            ),
        )

    def find_protected(self, token_ids: Int64[np.ndarray, " token"]) -> Bool[np.ndarray, " token"]:
        """True where a token belongs to a protected run that begins and ends with a word."""
        found = np.zeros(len(token_ids), dtype=bool)
        ids = token_ids.tolist()
        inside = [*self.continuation[token_ids].tolist(), False]
        for start, first in enumerate(ids):
            if first not in self._runs_by_first or inside[start]:
                continue
            for run in self._runs_by_first[first]:
                stop = start + len(run)
                if ids[start:stop] == run and not inside[stop]:
                    found[start:stop] = True
        return found

    @cached_property
    def _runs_by_first(self) -> dict[int, list[list[int]]]:
        runs: dict[int, list[list[int]]] = {}
        for run in sorted(self.protected):
            runs.setdefault(run[0], []).append(list(run))
        return runs


def _flags(pieces: dict[str, int], chosen: set[str]) -> Bool[np.ndarray, " vocab"]:
    flags = np.zeros(max(pieces.values()) + 1, dtype=bool)
    flags[[pieces[piece] for piece in chosen]] = True
    return flags
