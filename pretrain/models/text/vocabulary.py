"""What a text encoder needs to know of the tokenizer."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool
from tokenizers import Tokenizer
from torch import Tensor

SENTENCE_ENDS = frozenset(".!?…‼⁇⁈⁉。．｡！？؟۔।॥။၊།༎។៕։።፧᙮")  # noqa: RUF001
"""Full stops, exclamation and question marks: Latin, CJK, Arabic, Indic, Burmese, Tibetan,
Khmer, Armenian, Ethiopic, Canadian."""
CLOSING_MARKS = frozenset("\"'”’»›)]}」』】）")  # noqa: RUF001
"""What may still follow a full stop inside its sentence."""
CONTINUATION = "##"


@dataclass(frozen=True)
class Vocabulary:
    """Number of ids, and the ``tokenizer.json`` that tells their meaning."""

    size: int
    tokenizer_file: Path

    def sentence_ends(self) -> Bool[Tensor, " vocab"]:
        """True for pieces made of sentence-ending marks alone."""
        return self._pieces_of(SENTENCE_ENDS)

    def sentence_tails(self) -> Bool[Tensor, " vocab"]:
        """True for ends, closing marks, and what the tokenizer puts around every text."""
        tails = self._pieces_of(SENTENCE_ENDS | CLOSING_MARKS)
        tails[self._tokenizer().encode("").ids] = True
        return tails

    def _pieces_of(self, characters: frozenset[str]) -> Bool[Tensor, " vocab"]:
        found = torch.zeros(self.size, dtype=torch.bool)
        for piece, number in self._tokenizer().get_vocab().items():
            bare = piece.removeprefix(CONTINUATION)
            found[number] = bool(bare) and characters.issuperset(bare)
        return found

    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self.tokenizer_file.read_text(encoding="utf-8"))
