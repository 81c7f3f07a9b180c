"""Learning real image sets, where a data root is given (HATJAX_DATA)."""

import pytest

from hatjax import config
from hatjax.experiment import run


@pytest.mark.data
def test_hat_learns_mnist_and_forgets_nothing(tmp_path):
    c = config.make("mnist2", "hat")
    c.data.examples, c.epochs, c.network.widths = 4000, 2, (400, 400)
    acc = run.run(c, tmp_path / "hat")
    assert acc[0, 0] > 0.9 and acc[1, 1] > 0.8
    assert abs(acc[1, 0] - acc[0, 0]) < 0.005
