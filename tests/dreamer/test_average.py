import pytest
import torch
from torch import nn

from telepath.dreamer.average import RunningAverage


class Counter(nn.Module):
    """A weight and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("seen", torch.zeros(()))


def test_the_average_goes_a_share_of_the_way_and_the_module_is_left_alone() -> None:
    module = Counter()
    steady = RunningAverage(module, 0.25, begin=2)
    with torch.no_grad():
        module.weight += 4
        module.seen += 8
    steady.follow(3)
    assert steady.average.weight.tolist() == [1, 1]
    assert float(steady.average.get_buffer("seen")) == 2
    steady.follow(4)
    assert steady.average.weight.tolist() == [1.75, 1.75]
    assert module.weight.tolist() == [4, 4]
    assert module.weight.requires_grad
    assert not steady.average.weight.requires_grad


@pytest.mark.parametrize(("rate", "begin"), [(1.0, 0), (0.5, 2)])
def test_at_a_rate_of_one_and_in_the_beginning_the_weights_are_taken_over_whole(rate: float, begin: int) -> None:
    module = Counter()
    steady = RunningAverage(module, rate, begin)
    with torch.no_grad():
        module.weight += 1e30  # 0 + 1 * (x - 0) would do, a difference of large numbers would not
    steady.follow(1)
    with torch.no_grad():
        module.weight.fill_(0.1)
    steady.follow(2)
    assert torch.equal(steady.average.weight, module.weight)
    weights = steady.weights()
    with torch.no_grad():
        module.weight.fill_(7.0)
    steady.follow(3)
    assert torch.equal(weights["weight"], torch.full((2,), 0.1)), "a copy"
