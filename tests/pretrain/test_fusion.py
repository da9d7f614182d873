from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from data_sharding.schema import MODALITIES
from pretrain.models import Encoded, FusionConfig
from pretrain.models.fusion import FUSIONS, build_fusion
from pretrain.models.fusion.layers import TokenAttention, last_part

DIMS = {"text": (12, 12), "image": (10, 6), "audio": (8, 16)}
TOKENS = {"text": 5, "image": 4, "audio": 3}
SUBSETS = [subset for subset in product((True, False), repeat=3) if any(subset)]
BATCH = len(SUBSETS)


def a_config(name):
    return FusionConfig(fusion=name, embed_dim=16, reduce_dim=8, num_layers=2, num_heads=2)


def a_fusion(name, seed=0):
    torch.manual_seed(seed)
    fusion = build_fusion(DIMS, a_config(name))
    # Away from the symmetric start, where a wrong index could go unseen.
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return fusion


def some_encoded(seed, scale=1.0, batch=BATCH):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return scale * torch.randn(*shape, generator=generator)

    encoded = {
        name: Encoded.of_whole(draw(batch, embed), draw(batch, TOKENS[name], token))
        for name, (embed, token) in DIMS.items()
    }
    lengths = torch.randint(1, TOKENS["text"] + 1, (batch, 1), generator=generator)
    mask = torch.arange(TOKENS["text"]) < lengths
    return encoded | {"text": replace(encoded["text"], token_mask=mask)}


def mixed(available, here, elsewhere):
    """``here`` where a modality is available, ``elsewhere`` in every other place."""

    def pick(index, a, b):
        keep = available[:, index].reshape(-1, *[1] * (a.ndim - 1))
        return torch.where(keep, a, b)

    return {
        name: Encoded(
            pooled=pick(i, here[name].pooled, elsewhere[name].pooled),
            tokens=pick(i, here[name].tokens, elsewhere[name].tokens),
            token_mask=pick(i, here[name].token_mask, elsewhere[name].token_mask),
        )
        for i, name in enumerate(MODALITIES)
    }


def tracked(encoded):
    return {
        name: replace(
            value, pooled=value.pooled.requires_grad_(), tokens=value.tokens.requires_grad_()
        )
        for name, value in encoded.items()
    }


@pytest.mark.parametrize("name", FUSIONS)
@given(seed=st.integers(0, 2**16), scale=st.sampled_from([0.0, 1.0, 30.0]))
@settings(max_examples=10, deadline=None)
def test_what_a_missing_modality_holds_changes_nothing(name, seed, scale):
    fusion, available = a_fusion(name), torch.tensor(SUBSETS)
    here = some_encoded(seed)
    expected = fusion(here, available)
    changed = mixed(available, here, some_encoded(seed + 1, scale))
    torch.testing.assert_close(fusion(changed, available), expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", FUSIONS)
def test_the_encoder_of_a_missing_modality_gets_a_gradient_of_exactly_zero(name):
    available = torch.tensor(SUBSETS)
    encoded = tracked(some_encoded(3))
    a_fusion(name)(encoded, available).square().sum().backward()
    for index, value in enumerate(encoded.values()):
        gradients = [g for g in (value.pooled.grad, value.tokens.grad) if g is not None]
        assert gradients
        for gradient in gradients:
            by_row = gradient.flatten(1).abs().sum(1)
            assert (by_row[~available[:, index]] == 0.0).all()
            assert (by_row[available[:, index]] > 0.0).all()


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("subset", [*SUBSETS, (False, False, False)])
def test_every_parameter_gets_a_finite_gradient_whatever_is_missing(name, subset):
    fusion = a_fusion(name)
    fused = fusion(some_encoded(4), torch.tensor([subset] * BATCH))
    fused.square().sum().backward()
    without = [key for key, p in fusion.named_parameters() if p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_subset_is_told_apart_and_an_empty_one_stays_finite(name, dtype):
    fusion = a_fusion(name).to(dtype)
    one = some_encoded(5, batch=1)
    encoded = {
        key: Encoded(
            value.pooled.to(dtype).expand(8, -1),
            value.tokens.to(dtype).expand(8, -1, -1),
            value.token_mask.expand(8, -1),
        )
        for key, value in one.items()
    }
    fused = fusion(encoded, torch.tensor([*SUBSETS, (False, False, False)]))
    assert fused.dtype == dtype
    assert fused.isfinite().all()
    distances = torch.cdist(fused[:7].float(), fused[:7].float())
    assert (distances + torch.eye(7) > 0.01).all()


@pytest.mark.parametrize("name", FUSIONS)
def test_bfloat16_gives_what_float32_gives(name):
    fusion, available, encoded = a_fusion(name), torch.tensor(SUBSETS), some_encoded(6)
    exact = fusion(encoded, available)
    rounded = {
        key: replace(value, pooled=value.pooled.bfloat16(), tokens=value.tokens.bfloat16())
        for key, value in encoded.items()
    }
    found = fusion.bfloat16()(rounded, available).float()
    assert F.cosine_similarity(found, exact).min() > 0.999


@pytest.mark.parametrize("name", ["co_attention", "cross_attention"])
@given(seed=st.integers(0, 2**16))
@settings(max_examples=10, deadline=None)
def test_what_padding_holds_changes_nothing(name, seed):
    fusion, available, encoded = a_fusion(name), torch.tensor(SUBSETS), some_encoded(seed)
    text = encoded["text"]
    other = torch.where(text.token_mask.unsqueeze(-1), text.tokens, torch.tensor(7.0))
    changed = encoded | {"text": replace(text, tokens=other)}
    torch.testing.assert_close(
        fusion(changed, available), fusion(encoded, available), rtol=0.0, atol=1e-6
    )


@pytest.mark.parametrize("name", ["co_attention", "cross_attention"])
def test_a_text_without_a_single_token_stays_finite(name):
    fusion, encoded = a_fusion(name), some_encoded(8)
    none = torch.zeros_like(encoded["text"].token_mask)
    encoded = tracked(encoded | {"text": replace(encoded["text"], token_mask=none)})
    fused = fusion(encoded, torch.tensor(SUBSETS))
    fused.square().sum().backward()
    assert fused.isfinite().all()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


def test_attention_gives_its_weight_to_what_is_there():
    fusion, available = a_fusion("attention"), torch.tensor(SUBSETS)
    weights = fusion.modality_weights(some_encoded(9), available)
    torch.testing.assert_close(weights.sum(1), torch.ones(BATCH))
    assert (weights[~available] == 0.0).all()
    assert (weights[available] > 0.0).all()


def test_attention_equals_its_equation():
    fusion, encoded = a_fusion("attention"), some_encoded(10)
    subset = (True, False, True)
    h = [fusion.reduce[m](encoded[m].pooled) for m in ("text", "audio")]
    e = [fusion.score[m](value).exp() for m, value in zip(("text", "audio"), h, strict=True)]
    expected = (e[0] * h[0] + e[1] * h[1]) / (e[0] + e[1])
    torch.testing.assert_close(fusion(encoded, torch.tensor([subset] * BATCH)), expected)


def test_a_missing_place_in_a_concatenation_holds_a_learned_vector():
    fusion, encoded = a_fusion("concat"), some_encoded(11)
    text, audio = (fusion.reduce[m](encoded[m].pooled) for m in ("text", "audio"))
    absent = fusion.missing[1].expand(BATCH, -1)
    expected = fusion.join(torch.cat([text, absent, audio], dim=1))
    found = fusion(encoded, torch.tensor([(True, False, True)] * BATCH))
    torch.testing.assert_close(found, expected)


def test_a_sum_does_not_grow_with_the_number_of_modalities():
    fusion, encoded = a_fusion("sum"), some_encoded(12)
    single = [fusion(encoded, torch.tensor([[i == j for j in range(3)]] * BATCH)) for i in range(3)]
    full = fusion(encoded, torch.ones(BATCH, 3, dtype=torch.bool))
    torch.testing.assert_close(full, torch.stack(single).mean(0))


def test_graph_convolution_equals_its_equation_node_by_node():
    fusion, encoded = a_fusion("graph"), some_encoded(13)
    for row, subset in enumerate(SUBSETS):
        found = fusion(encoded, torch.tensor([subset] * BATCH))[row]
        torch.testing.assert_close(found, graph_by_hand(fusion, encoded, subset, row))


def graph_by_hand(fusion, encoded, subset, row):
    here = [i for i in range(3) if subset[i]]
    a = (fusion.edges + fusion.edges.T).exp()
    degree = {i: sum(a[i, j] for j in here) for i in here}
    h = {i: fusion.reduce[MODALITIES[i]](encoded[MODALITIES[i]].pooled)[row] for i in here}
    for layer in fusion.layers:
        h = {
            i: F.relu(
                sum(a[i, j] / (degree[i] * degree[j]).sqrt() * layer.weight @ h[j] for j in here)
            )
            for i in here
        }
    return torch.stack(list(h.values())).mean(0)


def test_token_attention_is_a_weighted_mean_of_what_it_looks_at():
    torch.manual_seed(0)
    attention = TokenAttention(8, 2)
    tokens, context = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    mask = torch.tensor([[True, True, False, True]])
    seen = context[:, mask[0]]
    q, k, v = attention.query(tokens), attention.key(seen), attention.value(seen)
    heads = [slice(0, 4), slice(4, 8)]
    mixed_heads = [
        (q[..., s] @ k[..., s].transpose(1, 2) / 2.0).softmax(-1) @ v[..., s] for s in heads
    ]
    expected = attention.norm(tokens + attention.out(torch.cat(mixed_heads, dim=-1)))
    torch.testing.assert_close(attention(tokens, context, mask), expected)


def test_a_token_with_nothing_to_look_at_stays_as_it_is():
    torch.manual_seed(0)
    attention = TokenAttention(8, 2)
    tokens, nothing = torch.randn(2, 3, 8), torch.zeros(2, 4, dtype=torch.bool)
    found = attention(tokens, torch.randn(2, 4, 8), nothing)
    torch.testing.assert_close(found, attention.norm(tokens))


def test_the_last_token_is_the_last_real_one():
    values = torch.arange(10.0).reshape(2, 5, 1)
    mask = torch.tensor([[True, True, False, False, False], [True] * 5])
    assert last_part(values, mask).tolist() == [[1.0], [9.0]]


def test_a_crossed_vector_counts_only_where_there_is_another_modality():
    fusion, encoded = a_fusion("cross_attention"), some_encoded(14)
    image = fusion.reduce["image"](encoded["image"].tokens)
    own = fusion.within["image"](image, image, encoded["image"].token_mask)
    found = fusion(encoded, torch.tensor([(False, True, False)] * BATCH))
    torch.testing.assert_close(found, fusion.out(own.mean(1)))


def test_co_attention_of_two_averages_what_each_heard_of_the_other():
    fusion, encoded = a_fusion("co_attention"), some_encoded(15)
    states = {m: fusion.reduce[m](encoded[m].tokens) for m in ("image", "audio")}
    masks = {m: encoded[m].token_mask for m in states}
    for block in fusion.blocks:
        states = {
            m: block.feed_forward[m](block.attend[f"{m}_to_{o}"](states[m], states[o], masks[o]))
            for m, o in (("image", "audio"), ("audio", "image"))
        }
    pooled = (states["image"].mean(1) + states["audio"].mean(1)) / 2
    found = fusion(encoded, torch.tensor([(False, True, True)] * BATCH))
    torch.testing.assert_close(found, fusion.out(pooled))


def test_heads_that_do_not_divide_the_width_are_refused_where_there_are_heads():
    with pytest.raises(ValueError, match=r"fusion\.reduce_dim 10 is not a multiple"):
        FusionConfig(fusion="co_attention", reduce_dim=10, num_heads=4)
    FusionConfig(fusion="sum", reduce_dim=10, num_heads=4)


@pytest.mark.parametrize("option", ["embed_dim", "reduce_dim", "num_layers", "num_heads"])
def test_a_size_of_nothing_is_refused_by_name(option):
    with pytest.raises(ValueError, match=rf"fusion\.{option} must be positive, got 0"):
        FusionConfig(**{option: 0})
