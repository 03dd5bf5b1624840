"""Codecs: numbers in and out, the networks of frames, and that states are treated as they always were."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from telepath.dreamer.agent import Agent
from telepath.dreamer.encoders import codec_for
from telepath.dreamer.learner import ModelLearner
from telepath.dreamer.replay import Lesson, Replay
from telepath.dreamer.rssm import WorldModel
from telepath.episodes import Episode
from telepath.errors import UserError
from telepath.observations import SIDE, Observation, pack
from telepath.settings import DreamerSettings

PIXELS, BOTH = Observation("pixels", 0), Observation("pixels+state", 5)


@pytest.fixture
def shallow(small: DreamerSettings) -> DreamerSettings:
    return small.model_copy(update={"cnn_depth": 4, "reconstruction_scale": 1.0})


def records(observation: Observation, count: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    if observation.kind == "pixels":
        return torch.from_numpy(frames)
    return torch.from_numpy(np.stack([pack(f, rng.standard_normal(5).astype(np.float32)) for f in frames]))


def moving_square(steps: int, start: int) -> Episode:
    """A bright square that an action moves to the right or left."""
    rng = np.random.default_rng(start)
    place, frames, actions = start, [], []
    for t in range(steps):
        action = float(rng.choice([-1.0, 1.0])) if t else 0.0
        place = int(np.clip(place + 6 * action, 0, SIDE - 12))
        frame = np.full((SIDE, SIDE, 3), 40, np.uint8)
        frame[24:36, place : place + 12] = (230, 120, 20)
        frames.append(frame)
        actions.append([action])
    return Episode(np.stack(frames), np.array(actions, np.float32), None)


@pytest.mark.parametrize("observation", [PIXELS, BOTH])
def test_what_is_squashed_can_be_restored(observation: Observation, shallow: DreamerSettings) -> None:
    codec, seen = codec_for(observation, shallow), records(observation, 3)
    units = torch.linspace(-1, 1, observation.state_dim), torch.linspace(1, 2, observation.state_dim)
    vector = codec.squash(seen, *units)
    assert vector.shape == (3, SIDE * SIDE * 3 + observation.state_dim)
    assert float(vector[:, : SIDE * SIDE * 3].abs().max()) <= 0.5
    again = codec.restore(vector, *units)
    assert (again.shape, again.dtype) == (seen.shape, torch.uint8)
    torch.testing.assert_close(again[:, :SIDE], seen[:, :SIDE], atol=0, rtol=0)
    if observation.state_dim:
        torch.testing.assert_close(codec.state(again), codec.state(seen))


@pytest.mark.parametrize("observation", [PIXELS, BOTH])
def test_a_world_model_takes_and_gives_records(observation: Observation, shallow: DreamerSettings) -> None:
    model = WorldModel(observation, 2, shallow)
    seen = records(observation, 12).unflatten(0, (3, 4))
    model.fit_units(seen.flatten(0, 1))
    observed = model.observe(seen, torch.zeros(3, 4, 2), None)
    decoded = model.decode(observed.latent.feature)
    assert (decoded.shape, decoded.dtype) == (seen.shape, torch.uint8)
    torch.testing.assert_close(model.read(seen), model.encoder(model.squash(seen)))
    assert model.read(seen).shape == (3, 4, model.codec.read_dim)


def test_state_alone_decides_the_units(shallow: DreamerSettings) -> None:
    model, seen = WorldModel(BOTH, 2, shallow), records(BOTH, 40)
    model.fit_units(seen)
    torch.testing.assert_close(model.center, model.codec.state(seen).mean(0))
    assert WorldModel(PIXELS, 2, shallow).center.shape == (0,)


def test_a_square_that_actions_move_is_learned(shallow: DreamerSettings) -> None:
    """What is reconstructed moves with the square: better than the best still picture, the mean frame."""
    torch.manual_seed(0)
    settings = shallow.model_copy(update={"deter": 32, "stoch": 8, "hidden": 32, "model_lr": 3e-3})
    model = WorldModel(PIXELS, 1, settings)
    replay, rng = Replay([moving_square(30, start) for start in range(0, 50, 5)]), np.random.default_rng(0)
    learner = ModelLearner(model, settings, torch.Generator().manual_seed(0))
    for _ in range(150):
        learner.update(Lesson(replay.sample(4, 12, rng)))
    batch = replay.sample(8, 12, rng)
    wanted = model.squash(batch.observation)
    with torch.no_grad():
        found = model.decoder(model.observe(batch.observation, batch.action, None).latent.feature)
    still = (wanted - wanted.mean((0, 1))).square().sum(-1).mean()
    assert float((wanted - found).square().sum(-1).mean()) < 0.7 * float(still)


def test_half_precision_is_asked_for_by_a_variable(shallow: DreamerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, seen = WorldModel(PIXELS, 2, shallow), records(PIXELS, 2)
    exact = model.encoder(model.squash(seen))
    monkeypatch.setenv("TELEPATH_HALF", "1")
    rounded = model.encoder(model.squash(seen))
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.05)
    feature = torch.randn(2, model.feature_dim)
    assert model.decoder(feature).dtype == torch.float32
    model.decoder(feature).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.decoder.parameters() if p.grad is not None)
    monkeypatch.setenv("TELEPATH_HALF", "yes")
    with pytest.raises(UserError, match="TELEPATH_HALF: 'yes' is not 0 or 1"):
        model.encoder(model.squash(seen))


@pytest.mark.parametrize("observation", [PIXELS, BOTH])
def test_an_agent_says_what_it_observes(observation: Observation, shallow: DreamerSettings, tmp_path: Path) -> None:
    agent, path = Agent("point", observation, 1, shallow), tmp_path / "agent.safetensors"
    agent.save(path)
    again = Agent.load(path, "point", observation.kind)
    assert again.model.observation == observation
    seen = records(observation, 2).numpy()
    one, other = agent.policy(), again.policy()
    one.reset(2)
    other.reset(2)
    np.testing.assert_array_equal(one.act(seen), other.act(seen))
    with pytest.raises(UserError, match=f"observes {observation.kind.replace('+', '.')}, not state") as caught:
        Agent.load(path, "point")
    assert len(str(caught.value).splitlines()) == 1


def test_a_world_model_of_states_begins_with_the_weights_it_always_had(small: DreamerSettings) -> None:
    """Names, order and values: a change of any of them would change every result from states."""
    torch.manual_seed(0)
    weights = WorldModel(3, 2, small).state_dict()
    assert list(weights)[:4] == ["center", "spread", "encoder.0.weight", "encoder.0.bias"]
    digest = hashlib.sha256()
    for name, value in weights.items():
        digest.update(name.encode() + value.numpy().tobytes())
    assert digest.hexdigest()[:16] == "db55f8f0b7397128"
