"""Random models from BPMN's own vocabulary: every one gets diagnostics or runs, none breaks anything."""

import pytest

from tests.bpmn.random_models import Modeller, exercise


@pytest.mark.parametrize("wild", [0.0, 1.0])
def test_random_models_are_refused_or_run(wild: float):
    ran = sum(exercise(Modeller(seed, wild).model(), seed) for seed in range(100))
    assert ran > 5
