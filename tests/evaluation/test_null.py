from typing import Any

import numpy as np

from telepath.evaluation.null import null_costs


class Drawing:
    """A re-enactor whose costs are what it draws; like the real one, it gives the median of what it was asked for."""

    def null_cost(self, episodes: list[Any], count: int, rng: np.random.Generator) -> float:
        return float(np.median(rng.uniform(size=count)))


def test_the_distribution_has_a_value_a_piece_and_repeats() -> None:
    costs = null_costs(Drawing(), [], 40, 3)  # type: ignore[arg-type]
    assert costs.shape == (40,)
    assert (np.diff(costs) > 0).all()
    np.testing.assert_array_equal(costs, null_costs(Drawing(), [], 40, 3))  # type: ignore[arg-type]
    assert (costs != null_costs(Drawing(), [], 40, 4)).any()  # type: ignore[arg-type]
