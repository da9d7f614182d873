import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_sharding.vocabulary import SPECIAL_TOKENS, VocabularyConfig, train_tokenizer
from pretrain.views import TextViewConfig, TextVocabulary, ViewsConfig
from pretrain.views.protected_words import INTENSIFIERS, NEGATORS
from pretrain.views.random import view_generator
from pretrain.views.text import text_view
from pretrain.views.words import WordEditConfig, edit_words, number_words

NUM, MASK, CLS, SEP = 40, 4, 2, 3
CONTINUATIONS, NEGATOR = range(30, 40), (10, 30)
"""Ids 30-39 go on with a word; the word 10 30 is protected."""


def a_vocabulary(protected=frozenset({NEGATOR})):
    ids = np.arange(NUM)
    return TextVocabulary(
        mask_id=MASK, special=ids < 5, continuation=ids >= CONTINUATIONS.start, protected=protected
    )


def a_text(ids, length=None):
    padded = torch.zeros(length or len(ids), dtype=torch.int64)
    padded[: len(ids)] = torch.tensor(ids)
    return padded, torch.arange(len(padded)) < len(ids)


def generators(seed):
    return tuple(view_generator(seed, 0, 0, 0, purpose) for purpose in ("text", "text_words"))


def view_of(ids, config, seed=0, length=None, vocabulary=None):
    """The real ids of the first view."""
    tokens, mask = a_text(ids, length)
    out, kept = text_view(tokens, mask, 0, config, vocabulary or a_vocabulary(), generators(seed))
    assert not out[~kept].any()
    assert not kept[1:].gt(kept[:-1]).any()  # the real ones first
    return out[kept].tolist()


def words_of(ids):
    """Runs of a word's first piece and its continuations, special tokens left out."""
    words = []
    for token in ids:
        if token in CONTINUATIONS and words:
            words[-1] += (token,)
        elif token >= 5:
            words.append((token,))
    return words


def is_part(part, whole):
    """Whether one list is the other with items left out."""
    rest = iter(whole)
    return all(item in rest for item in part)


pieces = st.lists(st.sampled_from([*range(30, 34)]), max_size=2)
word = st.one_of(
    st.just(NEGATOR), st.tuples(st.integers(11, 20), pieces).map(lambda w: (w[0], *w[1]))
)
texts = st.lists(word, max_size=9).map(lambda words: [CLS, *[i for w in words for i in w], SEP])
share = st.sampled_from([0.0, 0.3, 0.9, 1.0])
pair = st.tuples(share, share)
edits = st.fixed_dictionaries(
    {
        "span_probability": pair,
        "span_length": st.sampled_from(["geometric", "uniform"]),
        "drop_probability": pair,
        "repeat_probability": pair,
    }
)
units = st.sampled_from(["token", "word"])
seeds = st.integers(0, 1000)


@given(texts, pair, pair, units, edits, seeds)
def test_a_negator_is_never_masked_dropped_or_doubled(ids, mask, delete, unit, edit, seed):
    config = TextViewConfig(
        mask_probability=mask,
        delete_probability=delete,
        mask_unit=unit,
        words=WordEditConfig(**edit),
    )
    seen = view_of(ids, config, seed, length=40)
    # A lone piece of a word that was cut up may follow it: tokens are counted, not words.
    found = [tuple(seen[at : at + 2]) for at, token in enumerate(seen) if token == NEGATOR[0]]
    assert found == [NEGATOR] * words_of(ids).count(NEGATOR)


@given(texts, pair, edits, seeds, st.integers(0, 9))
def test_special_tokens_stay_and_a_view_is_never_longer_than_the_encoder_reads(
    ids, mask, edit, seed, spare
):
    config = TextViewConfig(mask_probability=mask, words=WordEditConfig(**edit))
    seen = view_of(ids, config, seed, length=len(ids) + spare)
    assert (seen[0], seen[-1]) == (CLS, SEP)
    assert seen.count(CLS) == seen.count(SEP) == 1
    assert len(seen) <= len(ids) + spare


@given(texts, pair, pair, seeds)
def test_what_is_left_after_dropping_keeps_its_order_and_is_whole_words(ids, drop, span, seed):
    config = TextViewConfig(
        mask_probability=(0.0, 0.0),
        words=WordEditConfig(drop_probability=drop, span_probability=span),
    )
    seen = words_of(view_of(ids, config, seed))
    assert is_part(seen, words_of(ids))
    assert seen or not words_of(ids)  # never nothing at all


@given(texts, pair, seeds)
def test_masking_by_word_hides_all_pieces_or_none(ids, mask, seed):
    config = TextViewConfig(mask_probability=mask, mask_unit="word")
    seen = view_of(ids, config, seed)
    assert len(seen) == len(ids)
    at = 1
    for whole in words_of(ids):
        part = tuple(seen[at : at + len(whole)])
        assert part in (whole, (MASK,) * len(whole))
        at += len(whole)


@given(texts, seeds)
def test_a_repeated_word_follows_itself_as_often_as_there_is_room(ids, seed):
    config = TextViewConfig(
        mask_probability=(0.0, 0.0), words=WordEditConfig(repeat_probability=(1.0, 1.0))
    )
    expected = [w for w in words_of(ids) for _ in range(1 if w == NEGATOR else 2)]
    assert words_of(view_of(ids, config, seed, length=80)) == expected
    assert view_of(ids, config, seed) == ids  # no room at all


def test_the_shares_are_those_of_the_options():
    ids = [CLS, *([11, 12, 13, 14] * 50), SEP]
    masked = TextViewConfig(mask_probability=(0.3, 0.1))
    assert view_of(ids, masked).count(MASK) / 200 == pytest.approx(0.3, abs=0.1)
    dropped = TextViewConfig(
        mask_probability=(0.0, 0.0), words=WordEditConfig(drop_probability=(0.2, 0.0))
    )
    assert len(view_of(ids, dropped)) / 202 == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("shape", ["geometric", "uniform"])
def test_a_span_is_one_run_no_longer_than_the_option_says(shape):
    config = WordEditConfig(
        span_probability=(1.0, 0.0), span_length=shape, span_mean_words=3.0, span_max_words=6
    )
    words = number_words(np.zeros(40, dtype=bool), np.zeros(40, dtype=bool))
    everything = np.ones(40, dtype=bool)
    lengths = []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        places = edit_words(words, everything, everything, 0, config, draw)
        gone = np.setdiff1d(np.arange(40), places)
        assert (np.diff(gone) == 1).all()
        lengths.append(len(gone))
    assert min(lengths) == 1
    assert max(lengths) == 6
    # Mean of the geometric law cut at 6, or of 1..6.
    assert np.mean(lengths) == pytest.approx(2.74 if shape == "geometric" else 3.5, abs=0.4)


def a_tokenizer(
    tmp_path, texts=("this is not good", "don't be absurd", "very good, не хорошо 不好")
):
    path = tmp_path / "tokenizer.json"
    path.write_text(train_tokenizer(texts, VocabularyConfig(min_frequency=1)).to_str())
    return path


def protected_in(path, config, text):
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(path)).encode(text)
    found = config.vocabulary(path).find_protected(np.array(encoded.ids))
    return [token for token, kept in zip(encoded.tokens, found, strict=True) if kept]


def test_words_that_decide_the_verdict_are_found_in_every_language(tmp_path):
    path, config = a_tokenizer(tmp_path), ViewsConfig()
    assert protected_in(path, config, "this is not good") == ["not"]
    assert protected_in(path, config, "don't be absurd") == ["don", "'", "t"]
    assert protected_in(path, config, "very good, не хорошо 不好") == ["very", "не", "不", "好"]
    assert {"en", "de", "fr", "es", "it", "pt", "nl", "zh"} <= NEGATORS.keys() & INTENSIFIERS.keys()


def test_a_word_that_only_begins_like_a_negator_is_not_protected(tmp_path):
    path = a_tokenizer(tmp_path, ("not", "notable", "no table", "##able"))
    config = ViewsConfig()
    assert "".join(protected_in(path, config, "notable not")).replace("##", "") == "not"


def test_the_list_can_be_extended_and_switched_off(tmp_path):
    path = a_tokenizer(tmp_path)
    more = ViewsConfig(text=TextViewConfig(protected_words=("absurd",)))
    assert "".join(protected_in(path, more, "be absurd")).replace("##", "") == "absurd"
    off = ViewsConfig(text=TextViewConfig(protect="nothing"))
    assert protected_in(path, off, "this is not good") == []


def test_special_ids_are_read_from_the_tokenizer_wherever_they_are(tmp_path):
    """BERT's own vocabulary has [MASK] at 103."""
    path = a_tokenizer(tmp_path)
    content = json.loads(path.read_text())
    shift = 100
    content["model"]["vocab"] = {k: v + shift for k, v in content["model"]["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] += shift
    for ends in content["post_processor"]["special_tokens"].values():
        ends["ids"] = [number + shift for number in ends["ids"]]
    path.write_text(json.dumps(content))
    vocabulary = TextVocabulary.load(path)
    assert vocabulary.mask_id == shift + SPECIAL_TOKENS.index("[MASK]")
    assert np.flatnonzero(vocabulary.special).tolist() == [shift + n for n in range(5)]
    seen = view_of([102, 110, 111, 103], TextViewConfig(mask_probability=(1.0, 1.0)),
                   vocabulary=vocabulary)  # fmt: skip
    assert seen == [102, 104, 104, 103]


def test_a_tokenizer_without_words_or_mask_is_refused(tmp_path):
    path = a_tokenizer(tmp_path)
    content = json.loads(path.read_text())
    without = {**content, "added_tokens": content["added_tokens"][:4]}
    path.write_text(json.dumps(without))
    with pytest.raises(ValueError, match=r"no special token \[MASK\]"):
        TextVocabulary.load(path)
    path.write_text(json.dumps({**content, "model": {"type": "Unigram", "vocab": []}}))
    with pytest.raises(ValueError, match="need a WordPiece tokenizer, this is Unigram"):
        TextVocabulary.load(path)


def test_a_vocabulary_travels_to_workers(tmp_path):
    vocabulary = ViewsConfig().vocabulary(a_tokenizer(tmp_path))
    other = pickle.loads(pickle.dumps(vocabulary))
    assert other.protected == vocabulary.protected
    assert np.array_equal(other.special, vocabulary.special)
