import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.models.text import TEXT_ENCODERS
from pretrain.models.text.sentences import sentence_grid

NUM_TOKENS = 12


@pytest.mark.parametrize("name", TEXT_ENCODERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_lies_in_the_padding_changes_nothing(build, name, data):
    encoder = build(name).eval().encoders["text"]
    length = data.draw(st.integers(0, NUM_TOKENS))
    ids = st.lists(st.integers(0, 90), min_size=NUM_TOKENS, max_size=NUM_TOKENS)
    one, other = torch.tensor(data.draw(ids)), torch.tensor(data.draw(ids))
    other[:length] = one[:length]
    mask = (torch.arange(NUM_TOKENS) < length).expand(2, -1)
    pooled = encoder(torch.stack([one, other]), mask).pooled
    torch.testing.assert_close(pooled[0], pooled[1])
    if length == 0:
        assert not pooled.any()
    if length:  # and without the padding, the same
        cut = encoder(one[None, :length], mask[:1, :length]).pooled
        torch.testing.assert_close(cut[0], pooled[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TEXT_ENCODERS)
def test_the_order_of_words_is_read(build, name):
    encoder = build(name).eval().encoders["text"]
    ids = torch.tensor([[10, 20, 30, 40, 50, 60], [60, 50, 40, 30, 20, 10]])
    pooled = encoder(ids, torch.ones_like(ids, dtype=torch.bool)).pooled
    assert not torch.allclose(pooled[0], pooled[1], atol=1e-4)


def grid_of(text: str, max_sentences: int = 3, max_words: int = 4):
    """One letter a token; '.' ends a sentence, ')' may follow, '_' is padding."""
    letters = torch.tensor([[ord(letter) for letter in text]])
    ends = letters == ord(".")
    tails = ends | (letters == ord(")"))
    grid = sentence_grid(letters != ord("_"), ends, tails, max_sentences, max_words)
    return ["".join(text[place] for place in row if place >= 0) for row in grid[0]]


def test_a_sentence_ends_after_its_full_stops_and_brackets():
    assert grid_of("ab.)c.d_") == ["ab.)", "c.", "d"]
    assert grid_of("a...b.__") == ["a...", "b.", ""]
    assert grid_of(".a)b.____") == [".", "a)b.", ""]


def test_a_long_sentence_goes_on_as_another_and_later_ones_are_left_out():
    assert grid_of("abcdef.gh") == ["abcd", "ef.", "gh"]
    assert grid_of("a.b.c.d.e") == ["a.", "b.", "c."]


def test_an_empty_text_has_no_sentence():
    assert grid_of("____") == ["", "", ""]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="ab.)", max_size=20).map(lambda text: (text + "_" * 20)[:20]),
    max_words=st.integers(1, 6),
)
def test_with_room_enough_every_token_lies_in_one_sentence_in_order(text, max_words):
    assert "".join(grid_of(text, max_sentences=20, max_words=max_words)) == text.rstrip("_")


def test_sentences_are_found_by_the_tokenizers_own_marks(build, stats_folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(stats_folder / "tokenizer.json"))
    encoder = build("han", max_sentence_tokens=10).eval().encoders["text"]
    ids = torch.tensor([tokenizer.encode("a red. a blue.").ids])
    annotated = encoder(ids, torch.ones_like(ids, dtype=torch.bool))
    assert annotated.token_mask.sum() == 2  # [SEP] begins no sentence of its own


def test_the_gru_of_both_ways_is_torchs_on_packed_rows():
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    from pretrain.models.text.han import BothWaysGru

    torch.manual_seed(0)
    ours, theirs = BothWaysGru(6), torch.nn.GRU(6, 3, batch_first=True, bidirectional=True)
    weights = dict(theirs.named_parameters())
    for direction, suffix in ((ours.forwards, ""), (ours.backwards, "_reverse")):
        direction.load_state_dict({n: weights[n + suffix] for n in direction.state_dict()})
    steps, lengths = torch.randn(3, 5, 6), torch.tensor([5, 3, 1])
    packed = pack_padded_sequence(steps, lengths, batch_first=True)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    mask = torch.arange(5) < lengths.unsqueeze(1)
    torch.testing.assert_close(ours(steps, mask)[mask], expected[mask])
