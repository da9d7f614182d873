"""Attentive probe: a learned query over frozen tokens."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from eval.probes.attentive import AttentiveConfig, AttentiveHead
from eval.probes.attentive_fit import fit_attentive
from eval.probes.attentive_tokens import TokenStore, TokenTable
from eval.probes.fits import FitJob, fit_all_splits
from eval.probes.floors import shuffled_labels
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.regression import RegressionProblem, RidgeConfig
from eval.samples import TaskSamples
from eval.splits import SplitConfig, group_splits, strata_of
from pretrain.models import Encoded

QUICK = AttentiveConfig(learning_rates=(1e-2,), epochs=40, width=16, num_heads=2)


def posed(labels):
    groups = [str(row) for row in range(len(labels))]
    (split,) = group_splits(strata_of(labels), groups, SplitConfig(num_splits=1))
    if np.issubdtype(labels.dtype, np.integer):
        classes = int(labels.max()) + 1
        config = LinearProbeConfig()
        return SplitProblem(
            labels=labels, groups=groups, split=split, num_classes=classes, config=config
        )
    return RegressionProblem(
        labels=labels,
        groups=groups,
        split=split,
        cuts="mosi",
        bounds=(-3.0, 3.0),
        config=RidgeConfig(),
    )


def one_of_many(count=400, num_parts=12, seed=0):
    """Each token bears a class; only the marked one bears the sample's. Lengths vary."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    borne = generator.integers(0, 4, (count, num_parts))
    lengths = generator.integers(num_parts // 2, num_parts + 1, count)
    marked = generator.integers(0, lengths)
    borne[np.arange(count), marked] = labels
    mark = 2.0 * np.eye(num_parts)[marked][:, :, None]
    tokens = np.concatenate([2.0 * np.eye(4)[borne], mark], axis=2)
    tokens += 0.3 * generator.normal(size=tokens.shape)
    mask = np.arange(num_parts) < lengths[:, None]
    table = TokenTable.of(
        {"text": torch.tensor(tokens, dtype=torch.float32)}, {"text": torch.from_numpy(mask)}
    )
    return table, labels.astype(np.int64)


def mean_tokens(table):
    values, mask = table.values["text"], table.masks["text"][:, :, None]
    return ((values * mask).sum(1) / mask.sum(1)).numpy()


def scored(table, problem, config=QUICK):
    fitted = fit_attentive(table, problem, config, seed=0)
    test = problem.split.test
    return problem.score(test, problem.decide(fitted.votes(test)))


def test_it_finds_the_one_token_that_tells_where_the_mean_does_not():
    table, labels = one_of_many()
    problem = posed(labels)
    (linear,) = fit_all_splits(FitJob(features=mean_tokens(table), problems=[problem]))
    assert scored(table, problem).macro_f1 > 0.9 > linear.scores.macro_f1 + 0.2


def test_taught_with_shuffled_labels_it_is_at_chance():
    table, labels = one_of_many()
    problem = posed(labels)
    taught = dataclasses.replace(problem, labels=shuffled_labels(problem, seed=0))
    fitted = fit_attentive(table, taught, QUICK, seed=0)
    test = problem.split.test
    found = problem.score(test, problem.decide(fitted.votes(test)))
    assert found.accuracy < 0.4  # of four classes, 120 samples: chance is 0.25, deviation 0.04


def test_numbers_are_read_from_the_token_that_tells():
    table, labels = one_of_many()
    problem = posed(labels * 1.5 - 2.25)
    (ridge,) = fit_all_splits(FitJob(features=mean_tokens(table), problems=[problem]))
    found = scored(table, problem)
    assert found.values["mae"] < 0.6 * ridge.scores.values["mae"]


def test_the_head_is_torchs_attention_with_one_query():
    config = AttentiveConfig(width=12, num_heads=3)
    head = AttentiveHead({"text": 5}, 4, config, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(head.query)  # at its start it looks at all alike
    usual = nn.MultiheadAttention(12, 3, kdim=5, vdim=5, batch_first=True, bias=False)
    with torch.no_grad():
        usual.q_proj_weight.copy_(torch.eye(12))
        usual.k_proj_weight.copy_(head.keys["text"].flatten(0, 1))
        usual.v_proj_weight.copy_(head.values["text"].flatten(0, 1))
        usual.out_proj.weight.copy_(torch.eye(12))
    tokens = torch.randn(7, 6, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(6) < torch.tensor([6, 5, 4, 3, 2, 1, 6])[:, None]
    query = head.query.flatten().expand(7, 1, 12)
    expected, _ = usual(query, tokens, tokens, key_padding_mask=~mask)
    expected = expected[:, 0] @ head.weight.T + head.bias
    torch.testing.assert_close(head({"text": tokens}, {"text": mask}), expected)


def two_modalities(count=200):
    table, labels = one_of_many(count)
    noise = torch.randn(count, 3, 9, generator=torch.Generator().manual_seed(0))
    has = torch.arange(count) % 4 > 0
    both = TokenTable.of(
        {**table.values, "image": noise},
        {**table.masks, "image": has[:, None].expand(count, 3)},
    )
    return both, labels


def test_tokens_that_are_masked_count_for_nothing():
    table, labels = two_modalities()
    problem, config = posed(labels), dataclasses.replace(QUICK, epochs=2)
    spoilt = {
        name: torch.where(table.masks[name][:, :, None], value, 1e9)
        for name, value in table.values.items()
    }
    before, after = (
        fit_attentive(one, problem, config, seed=0).votes(problem.split.test)
        for one in (table, dataclasses.replace(table, values=spoilt))
    )
    np.testing.assert_array_equal(before, after)


def test_a_sample_without_any_token_still_gets_probabilities():
    table, labels = one_of_many(120)
    table.masks["text"][::7] = False
    problem, config = posed(labels), dataclasses.replace(QUICK, epochs=2)
    votes = fit_attentive(table, problem, config, seed=0).votes(np.arange(120))
    assert np.isfinite(votes).all()
    np.testing.assert_allclose(votes.sum(1), 1.0)


def test_the_tokens_of_all_modalities_are_looked_at_together():
    table, labels = two_modalities(400)
    fitted = fit_attentive(table, posed(labels), QUICK, seed=0)
    rows = torch.arange(8)
    shares = fitted.head.attention(*fitted.reader.read(rows))
    assert shares.shape == (8, 2, 15)
    torch.testing.assert_close(shares.sum(2), torch.ones(8, 2))
    assert (shares[::4, :, 12:] == 0).all()  # each fourth sample lacks the picture
    marked = table.values["text"][rows, :, 4].argmax(1)
    best = shares.sum(1)[:, :12].argmax(1)
    assert (best == marked).float().mean() > 0.8
    assert scored(table, posed(labels)).macro_f1 > 0.9


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    table, labels = one_of_many(120)
    problem, config = posed(labels), dataclasses.replace(QUICK, epochs=3)
    one, again, other = (
        fit_attentive(table, problem, config, seed).votes(problem.split.test) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_rates_of_one_grid_do_not_disturb_each_other():
    table, labels = one_of_many(160)
    problem = posed(labels)
    grid = dataclasses.replace(QUICK, learning_rates=(1e-4, 3e-3, 1e-2), epochs=8)
    best = fit_attentive(table, problem, grid, seed=0)
    alone = [
        fit_attentive(table, problem, dataclasses.replace(grid, learning_rates=(rate,)), seed=0)
        for rate in grid.learning_rates
    ]
    assert best.mark == max(one.mark for one in alone) > min(one.mark for one in alone)
    same = alone[grid.learning_rates.index(best.learning_rate)]
    assert same.epoch == best.epoch
    rows = problem.split.test
    np.testing.assert_allclose(same.votes(rows), best.votes(rows), atol=1e-6)


def test_nothing_is_learned_from_the_test_part():
    table, labels = one_of_many(120)
    problem, config = posed(labels), dataclasses.replace(QUICK, epochs=3)
    before, test = fit_attentive(table, problem, config, seed=0), problem.split.test
    values = {"text": table.values["text"].clone()}
    values["text"][test] = -1e6
    others = labels.copy()
    others[test] = (labels[test] + 1) % 4
    after = fit_attentive(
        dataclasses.replace(table, values=values),
        dataclasses.replace(problem, labels=others),
        config,
        seed=0,
    )
    known = problem.split.validation
    np.testing.assert_array_equal(before.votes(known), after.votes(known))


def test_tokens_that_are_not_finite_are_refused():
    table, labels = one_of_many(60)
    problem = posed(labels)
    table.values["text"][problem.split.train[0], 0, 0] = torch.nan
    with pytest.raises(ValueError, match="text tokens are not finite"):
        fit_attentive(table, problem, QUICK, seed=0)


def test_a_training_part_without_a_class_is_refused():
    table, labels = one_of_many(60)
    problem = dataclasses.replace(posed(labels), num_classes=5)
    with pytest.raises(ValueError, match="no training row has the class 4"):
        fit_attentive(table, problem, QUICK, seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rates", ()),
        ("learning_rates", (1e-2, 1e-3)),
        ("learning_rates", (0.0,)),
        ("weight_decay", -1.0),
        ("epochs", 0),
        ("batch_size", 0),
        ("num_heads", 5),
    ],
)
def test_numbers_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"attentive\.{name}"):
        AttentiveConfig(**{name: value})


def encoded(count, generator):
    return {
        "text": Encoded(
            pooled=torch.zeros(count, 4),
            tokens=torch.randn(count, 5, 4, generator=generator),
            token_mask=torch.rand(count, 5, generator=generator) > 0.5,
        ),
        "image": Encoded.of_whole(
            torch.zeros(count, 3), torch.randn(count, 2, 3, generator=generator)
        ),
    }


def test_stored_tokens_are_those_of_the_labelled_samples_in_their_order(few_topics):
    generator = torch.Generator().manual_seed(0)
    store = TokenStore(task=few_topics, modalities=("text", "image"), num_stores=1)
    total = sum(part.num_samples for part in few_topics.parts)
    batches = [encoded(count, generator) for count in (10, 10, total - 20)]
    for batch in batches:
        store.add(batch)
    labelled = [0, 3, 11, total - 1]
    present = np.array([[True, True, False], [True, False, False], [True] * 3, [False, True, True]])
    samples = TaskSamples(
        ids=tuple("abcd"),
        labels=np.arange(4) % 2,
        groups=tuple("abcd"),
        num_testable=4,
        present=present,
        texts=("",) * 4,
        num_unlabelled=total - 4,
        places=np.array(labelled),
    )
    table = store.table(samples)
    rows = torch.tensor([2, 0])
    tokens, _ = table.at(rows, torch.device("cpu"))
    text, image = (torch.cat([batch[name].tokens for batch in batches]) for name in batches[0])
    torch.testing.assert_close(tokens["text"], text[[11, 0]])
    torch.testing.assert_close(tokens["image"], image[[11, 0]])
    assert table.masks["image"].any(1).tolist() == [True, False, True, True]
    assert not table.masks["text"][3].any()
    own = torch.cat([batch["text"].token_mask for batch in batches])
    torch.testing.assert_close(table.masks["text"][:3], own[labelled[:3]])
    assert list(table.read_by("fused_image").values) == ["image"]
    assert table.read_by("fused").num_parts == 7


def test_tokens_that_do_not_fit_in_memory_are_refused_with_their_size(few_topics, monkeypatch):
    monkeypatch.setattr("eval.probes.attentive_tokens.available_bytes", lambda: 10_000)
    store = TokenStore(task=few_topics, modalities=("text", "image"), num_stores=2)
    with pytest.raises(ValueError, match=r"text 5 x 4, image 2 x 3, of 2 backbones.*--also"):
        store.add(encoded(8, torch.Generator()))
