"""Projections of frames, and the distances in which re-enactments are searched for."""

from pathlib import Path

import numpy as np
import pytest
import torch

from telepath.alignment.belief import BeliefNet
from telepath.alignment.distance import LatentDistance, PixelDistance, StateDistance, distance_for
from telepath.alignment.projection import COMPONENTS, Projection, scale_for
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Reenactor
from telepath.alignment.segments import FrameScale, Segments, resample
from telepath.config import Params
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.episodes import Episode, load_episodes, save_episodes
from telepath.errors import UserError
from telepath.observations import PIXELS, SIDE, Observation
from telepath.settings import DreamerSettings

RATES = Rates(2, 1, 0.1)
FRAMES = Observation("pixels", 0)


def ball(place: float) -> np.ndarray:
    frame = np.full((SIDE, SIDE, 3), 90, np.uint8)
    frame[30:35, int(place) : int(place) + 5] = 220
    return frame


def episode(steps: int, seed: int = 0) -> Episode:
    rng = np.random.default_rng(seed)
    places = np.clip(30 + rng.normal(0, 4, steps).cumsum(), 0, 58)
    action = np.zeros((steps, 1), np.float32)
    return Episode(np.stack([ball(place) for place in places]), action, np.zeros(steps, np.float32))


@pytest.fixture
def scale() -> Projection:
    return Projection.fit([episode(60, seed) for seed in range(4)])


@pytest.fixture
def model(small: DreamerSettings) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(FRAMES, 1, small.model_copy(update={"cnn_depth": 2}))


def reenactor(model: WorldModel, scale: Projection, params: Params, distance: str) -> Reenactor:
    cem = params.label.cem.model_copy(update={"iterations": 2, "population": 8})
    settings = params.label.model_copy(update={"distance": distance, "prefix": 3, "reference": 4, "cem": cem})
    belief = BeliefNet.of(model, params.belief.model_copy(update={"hidden": 8}))
    return Reenactor(model, belief, scale, RATES, settings)


def segments(count: int = 3) -> Segments:
    frames = np.stack([episode(7, seed).observation for seed in range(count)])
    return Segments(frames[:, :3], frames[:, 3:], np.ones((count, 4), np.float32), np.zeros((count, 2), np.int64))


def test_a_projection_knows_nearness_and_is_small(scale: Projection) -> None:
    """A ball beside its place is nearer than one far off; between plain pixels there is no difference."""
    here, near, far = scale(np.stack([ball(10), ball(13), ball(40)]))
    assert here.shape == (COMPONENTS,)
    assert np.square(here - near).sum() < 0.7 * np.square(here - far).sum()


def test_squared_distances_are_in_units_of_the_spread(scale: Projection) -> None:
    """Of two independent draws the mean squared difference is twice the variance."""
    embedded = scale(np.concatenate([episode(60, seed).observation for seed in range(4)]))
    assert embedded.dtype == np.float32
    assert float(np.square(embedded - embedded.mean(0)).sum(-1).mean()) == pytest.approx(1, abs=0.1)


def test_the_kind_of_observation_decides_the_scale() -> None:
    states = Episode(np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32), None)
    assert isinstance(scale_for(Observation("state", 2), [states]), FrameScale)
    assert isinstance(scale_for(FRAMES, [episode(5)]), Projection)


def test_pixels_are_compared_with_what_is_decoded(model: WorldModel, scale: Projection, params: Params) -> None:
    distance = reenactor(model, scale, params, "decoded").distance
    assert isinstance(distance, PixelDistance)
    feature = torch.randn(3, 5, model.feature_dim)
    cut = segments()
    reference = distance.reference(cut)
    assert reference.shape == (3, 4, PIXELS)
    frames = torch.from_numpy(cut.reference).flatten(2) / 255 - 0.5
    wanted = (frames[:, :1] - model.decoder(feature)).square().mean(-1) / scale.spread**2
    found = (reference[:, :1] - distance.imagined(feature)).square().sum(-1)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(distance.misfit(torch.from_numpy(cut.reference[:, 0]), feature), found)


def test_latents_are_compared_with_what_the_belief_expects_of_frames(
    model: WorldModel, scale: Projection, params: Params
) -> None:
    search = reenactor(model, scale, params, "latent")
    distance, cut = search.distance, segments()
    assert isinstance(distance, LatentDistance)
    search.belief.squared_error.fill_(0.25)
    reference = distance.reference(cut)
    assert reference.shape == (3, 4, model.feature_dim)
    # The second reference frame: with the three frames that end there, at the source's rate.
    frames = np.concatenate([cut.prefix, cut.reference], 1)[:, 2:5]
    with torch.no_grad():
        read = model.read(torch.from_numpy(frames).transpose(0, 1))
        seconds = torch.tensor([0, 0.2, 0.2]).unsqueeze(1).expand(3, 3)
        mean = search.belief(read, seconds, torch.ones(3, 3)).mean
    torch.testing.assert_close(reference[:, 1], mean / (0.5 * model.feature_dim**0.5))
    feature = torch.randn(2, 2, model.feature_dim)
    gap = (distance.imagined(feature[0]) - distance.imagined(feature[1])).square().sum(-1)
    torch.testing.assert_close(gap, ((feature[0] - feature[1]) / 0.5).square().mean(-1))


def test_states_are_compared_as_ever(small: DreamerSettings, params: Params) -> None:
    model = WorldModel(2, 1, small)
    scale = FrameScale(np.array([0.5, 2.0], np.float32))
    assert isinstance(
        distance_for(model, BeliefNet.of(model, params.belief), scale, RATES, params.label), StateDistance
    )


@pytest.mark.parametrize("distance", ["decoded", "latent"])
def test_a_search_from_frames_finds_something_cheaper(
    model: WorldModel, scale: Projection, params: Params, distance: str
) -> None:
    search = reenactor(model, scale, params, distance)
    found = search.align(segments(), np.arange(3))
    assert found.observation.shape == (3, search.length, SIDE, SIDE, 3)
    assert found.observation.dtype == np.uint8
    assert (found.history[-1] <= found.history[0]).all()
    assert np.isfinite(found.cost).all()
    again = search.replay(segments(), found.noise, found.actions)
    np.testing.assert_allclose(again.cost, found.cost, rtol=1e-4)
    assert search.null_cost([episode(40)], 3, np.random.default_rng(0)) > 0


@pytest.mark.parametrize("kind", ["state", "decoded", "latent"])
def test_rollouts_are_compared_as_one_step_after_the_other(
    model: WorldModel, scale: Projection, params: Params, small: DreamerSettings, kind: str
) -> None:
    if kind == "state":
        model, known = WorldModel(3, 1, small), FrameScale(np.array([0.5, 2.0, 1.0], np.float32))
        model.fit_units(5 * torch.randn(40, 3) + 1)
        search = Reenactor(model, BeliefNet.of(model, params.belief), known, RATES, params.label)
    else:
        search = reenactor(model, scale, params, kind)
    start = Latent(torch.randn(2, model.deter).tanh(), torch.randn(2, model.stoch))
    actions = 2 * torch.rand(2, 3, 5, 1) - 1
    found = search._imagine_observations(start, actions)
    with torch.no_grad():
        for r in range(2):
            for p in range(3):
                latent = start.at([r])
                for t in range(5):
                    deter = model.recur(latent, actions[r, [p], t])
                    latent = Latent(deter, model.prior(deter).mean)
                    wanted = search.distance.imagined(latent.feature)[0]
                    torch.testing.assert_close(found[t, r, p], wanted, rtol=1e-5, atol=1e-5)


def test_the_belief_s_error_is_that_of_the_last_updates(model: WorldModel, params: Params) -> None:
    net = BeliefNet.of(model, params.belief)
    mean = torch.zeros(50, model.feature_dim)
    for _ in range(3):
        net.note_error(mean, mean + 0.3)
    torch.testing.assert_close(net.error, torch.full_like(net.error, 0.3))
    assert "squared_error" in net.state_dict()
    assert "squared_error" not in BeliefNet.of(WorldModel(2, 1, params.dreamer), params.belief).state_dict()


def test_two_pictures_are_not_laid_over_each_other() -> None:
    frames = episode(6).observation
    np.testing.assert_array_equal(resample(frames, np.array([0.4, 0.6, 3.0, 5.0])), frames[[0, 1, 3, 5]])


def test_frames_stay_bytes_on_disk_and_other_kinds_are_refused(tmp_path: Path) -> None:
    path, kept = tmp_path / "episodes.npz", episode(6)
    save_episodes(path, [kept])
    assert path.stat().st_size < 1.05 * kept.observation.nbytes + 4000
    (again,) = load_episodes(path, rewarded=True, dims=(FRAMES, 1))
    np.testing.assert_array_equal(again.observation, kept.observation)
    assert again.observation.dtype == np.uint8
    with pytest.raises(UserError, match="another task or kind of observation") as caught:
        load_episodes(path, rewarded=True, dims=(8, 1))
    assert len(str(caught.value).splitlines()) == 1
