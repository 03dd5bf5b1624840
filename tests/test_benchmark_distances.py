"""Distances are measured with the models of a finished run, and refuse to say what they cannot tell."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from benchmarks import distances
from benchmarks.distances import NONE, OWN, Watched
from stages.artefacts import BELIEF, EXPLORED_AGENT, SOURCE_AGENT
from telepath.alignment.belief import BeliefNet
from telepath.alignment.projection import Projection
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Reenactor
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.episodes import Episode
from telepath.observations import SIDE, Observation, pack
from telepath.runtime.store import save_state

PIXELS = Observation("pixels", 0)
TINY: dict[str, dict[str, Any]] = {
    "dreamer": {"deter": 12, "stoch": 4, "hidden": 16, "cnn_depth": 2},
    "belief": {"hidden": 8},
    "label": {"initial_latents": 2, "prefix": 3, "reference": 4},
}


@pytest.fixture
def run(tmp_path: Path, params: Params) -> Path:
    """A run from pixels with models that have learned nothing."""
    settings = yaml.safe_load(Path("params.yaml").read_text())
    settings["observation"] = "pixels"
    settings["gap"]["action_repeat"] = 20
    settings["tasks"][params.task]["action_repeat"] = 40
    for section, changed in TINY.items():
        settings[section].update(changed)
    settings["label"]["cem"].update(iterations=1, population=16)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    made = Params.model_validate(settings)
    torch.manual_seed(0)
    agent = Agent(params.task, PIXELS, 2, made.dreamer)
    for name in (SOURCE_AGENT, EXPLORED_AGENT):
        agent.save(tmp_path / name)
    net = BeliefNet.of(agent.model, made.belief)
    save_state(tmp_path / BELIEF, {"weights": dict(net.state_dict())}, kind="belief")
    return tmp_path


@pytest.mark.usefixtures("graphics")
def test_a_run_s_models_are_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distances.main(["--run", str(run), "--segments=4", "--episodes=4", "--out", str(run / "out")])
    table = pd.read_csv(run / "out" / "distances.csv")
    assert table["distance"].tolist() == ["neither", *["decoded"] * 3, *["latent"] * 3]
    assert table["actions"].tolist()[1:4] == ["found", OWN, NONE]
    assert (table["error_low"] <= table["error_median"]).all()
    assert (table["error_median"] <= table["error_high"]).all()
    assert table["cpu_seconds_a_segment"].notna().sum() == 2
    assert set(table["own_beat_none"][1:]) == {"no"}, "these models know nothing"
    assert "decoded: the own actions are not clearly better than none" in capsys.readouterr().out


def test_what_is_no_run_from_pixels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(Path("params.yaml").read_text())
    with pytest.raises(SystemExit, match="observation is state; name a run from pixels"):
        distances.main(["--run", str(tmp_path)])


def test_frames_and_states_are_told_apart() -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (5, SIDE, SIDE, 3)).astype(np.uint8)
    states = random.standard_normal((5, 8)).astype(np.float32)
    records = np.stack([pack(frame, state) for frame, state in zip(frames, states, strict=True)])
    episode, state = distances.split(Episode(records, np.zeros((5, 2), np.float32), None), 8)
    np.testing.assert_array_equal(episode.observation, frames)
    np.testing.assert_array_equal(state, states)


def test_pieces_are_cut_at_the_source_s_rate_with_their_own_states_and_actions(params: Params) -> None:
    dreamer = params.dreamer.model_copy(update=TINY["dreamer"])
    label = params.label.model_copy(update={**TINY["label"], "distance": "latent"})
    agent = Agent(params.task, PIXELS, 1, dreamer)
    t = np.arange(60)
    frames = np.broadcast_to(t[:, None, None, None], (60, SIDE, SIDE, 3)).astype(np.uint8)
    episode = Episode(frames, t[:, None].astype(np.float32), None)
    watched = [Watched(episode, np.stack([t, np.full(60, number)], 1).astype(np.float32)) for number in range(2)]
    belief = BeliefNet.of(agent.model, params.belief)
    reenactor = Reenactor(agent.model, belief, Projection.fit([episode]), Rates(6, 3, 0.02), label)
    pieces = distances.cut(watched, reenactor, 6, np.random.default_rng(0))
    last = pieces.segments.origin[:, 1]
    assert pieces.state[:, 0, 1].tolist() == [0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(pieces.state[:, :, 0], last[:, None] + 2 * np.arange(1, 5))
    np.testing.assert_array_equal(pieces.segments.reference[..., 0, 0, 0], pieces.state[:, :, 0])
    np.testing.assert_array_equal(pieces.segments.prefix[..., 0, 0, 0], last[:, None] + [-4, -2, 0])
    np.testing.assert_array_equal(pieces.actions[..., 0], last[:, None] + 1 + np.arange(reenactor.length))


def test_errors_follow_the_path_and_count_its_repeated_end_once() -> None:
    wanted = np.array([[[0.0], [2.0]]])
    imagined = np.array([[0.0], [0.0], [4.0]]).reshape(3, 1, 1)
    path = np.array([[[0, 0], [1, 1], [1, 2], [1, 2], [1, 2]]])
    np.testing.assert_allclose(distances.state_errors(path, imagined, wanted, np.array([2.0])), [2 / 3])


def test_a_linear_state_is_told() -> None:
    random = np.random.default_rng(0)
    feature = torch.from_numpy(random.standard_normal((500, 3)).astype(np.float32))
    state = feature.numpy() @ random.standard_normal((3, 2)) + 1
    np.testing.assert_allclose(distances.told(feature, distances.fitted(feature, state)), state, atol=0.05)


@pytest.mark.parametrize(("none", "verdict"), [(1.0, "yes"), (0.35, "no")])
def test_own_actions_beat_none_only_where_intervals_are_apart(none: float, verdict: str) -> None:
    spread = np.linspace(-0.1, 0.1, 24)
    rows = [("neither", "filtered", 0.1 + spread, np.nan)]
    rows += [("latent", kind, at + spread, np.nan) for kind, at in (("found", 0.5), (OWN, 0.3), (NONE, none))]
    table = distances.judged(rows)
    assert table["own_beat_none"].tolist() == ["", verdict, verdict, verdict]
    assert table["error_median"].tolist() == pytest.approx([0.1, 0.5, 0.3, none])
    assert (table["error_low"] < table["error_median"]).all()
