import numpy as np
import pytest
import torch

from telepath.alignment import worth
from telepath.alignment.matching import SourcePool
from telepath.alignment.rates import Rates
from telepath.alignment.segments import FrameScale
from telepath.alignment.worth import Worth, regression
from telepath.config import Params
from telepath.dreamer.networks import mlp
from telepath.episodes import Episode
from telepath.errors import Fault

DIMS = 12


def walk(seed: int, *, paid: bool) -> Episode:
    """Twelve independent slow walks; the last one alone decides the reward, and it moves least."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((60, DIMS))
    track = np.zeros((60, DIMS))
    for t in range(1, 60):
        track[t] = 0.9 * track[t - 1] + steps[t]
    reward = (track[:, -1] > 0).astype(np.float32)
    reward[0] = 0
    return Episode(track.astype(np.float32), np.zeros((60, 1), np.float32), reward if paid else None, False)


@pytest.fixture(scope="module")
def source() -> list[Episode]:
    return [walk(seed, paid=True) for seed in range(20)]


def correlation(source: list[Episode], params: Params, weight: float) -> float:
    """Of inferred and true rewards in new episodes."""
    settings = params.label.match.model_copy(update={"worth": weight, "window": 6, "stride": 3, "null_windows": 50})
    pool = SourcePool(source, FrameScale.fit(source), Rates(1, 1, 0.1), settings)
    fresh = [walk(seed, paid=True) for seed in range(100, 108)]
    true = np.concatenate([episode.reward[1:] for episode in fresh if episode.reward is not None])
    inferred = np.concatenate([pool.label(episode.without_reward()).rate[1:] for episode in fresh])
    return float(np.corrcoef(true, inferred)[0, 1])


def test_what_decides_the_reward_decides_the_match(source: list[Episode], params: Params) -> None:
    without, with_worth = correlation(source, params, 0.0), correlation(source, params, 1.0)
    assert with_worth > 0.75
    assert with_worth > without + 0.15


def test_a_difference_of_a_spread_counts_as_the_weight_says() -> None:
    frames = np.linspace(-1, 1, 1000, dtype=np.float32)[:, None]
    seen = Worth(frames, 3 * frames[:, 0], weight=4.0)(frames)
    assert seen.shape == (1000, 2)
    np.testing.assert_array_equal(seen[:, :1], frames)
    low, high = seen[50, 1], seen[949, 1]
    assert high - low == pytest.approx(2 * 2.0, rel=0.05)


def test_a_reward_that_never_differs_adds_nothing_that_does() -> None:
    frames = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    seen = Worth(frames, np.full(300, 0.5, np.float32), weight=1.0)(frames)
    assert np.ptp(seen[:, -1]) == 0


def plain(inputs: torch.Tensor, target: torch.Tensor) -> torch.nn.Module:
    """The same fit without a look at loss and gradients."""
    torch.manual_seed(0)
    network = mlp(inputs.shape[-1], worth.HIDDEN, 2, 1)
    optimizer = torch.optim.Adam(network.parameters(), worth.LEARNING_RATE, fused=True)
    for _ in range(worth.UPDATES):
        chosen = torch.randint(len(inputs), (worth.BATCH,))
        (network(inputs[chosen]).squeeze(-1) - target[chosen]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return network


def test_the_look_at_every_step_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth, "UPDATES", 60)
    inputs = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    target = 1e4 * inputs[:, 0].square()  # steep at first: a norm that others would clip
    for one, other in zip(plain(inputs, target).parameters(), regression(inputs, target).parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_stops_it_with_its_name(value: float) -> None:
    frames = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    rate = np.full(300, value, np.float32)
    with pytest.raises(Fault, match=r"^worth: rate\[0\] is not finite: the loss is ") as raised:
        regression(torch.from_numpy(frames), torch.from_numpy(rate))
    assert set(raised.value.evidence) == {"frames", "rate"}


def test_it_is_the_same_each_time_and_leaves_the_random_state_alone(source: list[Episode]) -> None:
    frames = np.concatenate([e.observation for e in source])
    rate = np.concatenate([e.reward for e in source if e.reward is not None])
    torch.manual_seed(5)
    first = Worth(frames, rate, 1.0)(frames[:50])
    drawn = torch.rand(1)
    torch.manual_seed(6)
    second = Worth(frames, rate, 1.0)(frames[:50])
    np.testing.assert_array_equal(first, second)
    torch.manual_seed(5)
    assert torch.rand(1) == drawn
