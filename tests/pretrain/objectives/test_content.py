from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models

from pretrain.objectives.content import ContentConfig, ContentOfViews
from pretrain.objectives.reconstruction import squared_error, words_error

ALL = [(True, True, True)] * 4
OWN = ContentConfig(view="own")


def test_each_view_is_to_tell_of_the_other_one(backbone, make_views):
    views = make_views(ALL)
    own = ContentOfViews(backbone, OWN)(views)
    other = ContentOfViews(backbone, ContentConfig())(views)
    for name in ("text", "text_mask", "image", "audio"):
        assert torch.equal(getattr(other, name), getattr(own, name).flip(0)), name


def test_a_picture_is_told_in_coarse_pixels_scaled_as_the_encoder_sees_it(backbone, make_views):
    views = make_views(ALL)
    found = ContentOfViews(backbone, OWN)(views).image.reshape(2, 4, 3, 16, 16)
    scaled = (views.image - backbone.image_mean) / backbone.image_std
    torch.testing.assert_close(found, scaled.reshape(2, 4, 3, 16, 2, 16, 2).mean((4, 6)))


def test_a_clip_is_told_in_coarse_mels_scaled_as_the_encoder_sees_it(backbone, make_views):
    views = make_views(ALL)
    found = ContentOfViews(backbone, OWN)(views).audio.reshape(2, 4, 16, 16)
    scaled = (views.log_mel + 5.0) / 3.0
    torch.testing.assert_close(found, scaled.reshape(2, 4, 16, 4, 16, 2).mean((3, 5)))


def test_only_words_are_content_and_not_what_the_tokenizer_or_the_view_put_there(
    backbone, make_views
):
    views = make_views(ALL)
    ids = Tokenizer.from_file(str(backbone.tokenizer_file)).encode("the dog").ids
    row = torch.tensor([*ids, 4, 0, 0])  # [CLS] the dog [SEP] [MASK] [PAD] [PAD]
    views.token_ids[:, 0] = 0
    views.token_ids[:, 0, : len(row)] = row
    views.token_mask[:, 0] = torch.arange(16) < len(ids) + 1
    content = ContentOfViews(backbone, OWN)(views)
    counted = content.text[0, 0][content.text_mask[0, 0]].tolist()
    assert counted == ids[1:-1]


def test_special_tokens_are_found_wherever_a_tokenizer_has_them(backbone, make_views, tmp_path):
    names = [f"w{i}" for i in range(55)] + ["[UNK]", "<s>", "</s>", "<pad>", "<mask>"]
    tokenizer = Tokenizer(
        models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    tokenizer.add_special_tokens(names[55:])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    backbone.tokenizer_file = tmp_path / "tokenizer.json"
    views = make_views(ALL)
    content = ContentOfViews(backbone, OWN)(views)
    assert torch.equal(content.text_mask, views.token_mask & (views.token_ids < 55))


def test_the_error_of_words_is_cross_entropy_against_their_bag(backbone, make_views):
    content = ContentOfViews(backbone, OWN)(make_views(ALL))
    vocab = backbone.stats.vocab_size
    logits = torch.randn(2, 4, vocab)
    bag = torch.zeros(2, 4, vocab)
    bag.scatter_add_(-1, content.text, content.text_mask.float())
    bag /= bag.sum(-1, keepdim=True)
    expected = -(bag * logits.log_softmax(-1)).sum(-1) / torch.tensor(float(vocab)).log()
    torch.testing.assert_close(words_error(logits, content), expected)
    uniform = words_error(torch.zeros(2, 4, vocab), content)
    torch.testing.assert_close(uniform, torch.ones(2, 4))


def test_a_text_without_a_word_that_counts_is_no_error_and_no_gradient(backbone, make_views):
    content = ContentOfViews(backbone, OWN)(make_views(ALL))
    content = replace(content, text_mask=torch.zeros_like(content.text_mask))
    logits = torch.randn(2, 4, backbone.stats.vocab_size, requires_grad=True)
    error = words_error(logits, content)
    error.sum().backward()
    assert (error == 0.0).all()
    assert (logits.grad == 0.0).all()


def test_errors_are_taken_in_float32_from_a_bfloat16_decoder(backbone, make_views):
    content = ContentOfViews(backbone, OWN)(make_views(ALL))
    told = torch.randn(2, 4, backbone.stats.vocab_size).bfloat16()
    assert words_error(told, content).dtype == torch.float32
    assert squared_error(content.image.bfloat16(), content.image).dtype == torch.float32


@pytest.mark.parametrize("option", ["image_pixels", "audio_mels", "audio_frames"])
def test_a_resolution_of_nothing_is_refused_by_name(option):
    with pytest.raises(ValueError, match=rf"content\.{option} must be positive, got 0"):
        ContentConfig(**{option: 0})
