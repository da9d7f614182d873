"""A backbone, inputs whose words and brightness tell the label, and one split of them."""

import numpy as np
import pytest
from tiny_finetune import NUM, make_backbone, make_inputs, make_problems


@pytest.fixture(scope="module")
def backbone(sample_shards):
    return make_backbone(sample_shards)


@pytest.fixture(scope="module")
def inputs(backbone):
    return make_inputs(backbone, (np.arange(NUM) % 3).astype(np.int64))


@pytest.fixture(scope="module")
def problem(inputs):
    return make_problems(inputs)[0]
