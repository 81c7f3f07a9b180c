"""Every approach of the table through a whole run, and read back."""

import numpy as np
import pytest

from hatjax import approaches, config
from hatjax.analysis import models
from hatjax.experiment import run


@pytest.mark.parametrize("name", sorted(approaches.APPROACHES))
def test_a_whole_run(name, tmp_path):
    c = config.make("digits", name)
    c.tasks.count, c.epochs, c.network.widths, c.data.examples = 2, 10, (16, 16), 300
    acc = run.run(c, tmp_path / name)
    assert (acc[np.tril_indices(2)] > 0.05).all()
    model = models.load(tmp_path / name)
    logits = models.predict(model, np.full((3, 8, 8), 9, np.uint8), 1)
    assert logits.shape == (3, 10) and np.isfinite(logits).all()
