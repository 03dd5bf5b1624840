"""The target agent refined on a rival's labels: only the labels differ, and nothing reads the target's reward."""

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from stages.train_labelled import curve
from telepath.alignment.belief import BeliefLearner
from telepath.alignment.labeller import Labeller
from telepath.alignment.segments import choose_frames
from telepath.baselines.catalogue import make_labeller
from telepath.config import Params
from telepath.envs.rollout import seed_episodes
from telepath.settings import DreamerSettings
from telepath.transfer.knowledge import Knowledge
from telepath.transfer.labels import segments_of
from telepath.transfer.target import Refinement
from tests.baselines.conftest import Point
from tests.conftest import Counting, Kept, NoScratch, PointEnvironment, StopAt, Stopped
from tests.transfer.test_target import Transfer

SHRUNK = {
    "ot": {"iterations": 20},
    "temporal_ot": {"iterations": 20},
    "orca": {"subgoals": 4},
    "gaifo": {"hidden": 8, "updates": 5, "batch": 16},
}


@pytest.fixture
def tiny(params: Params, small: DreamerSettings, brief_worth: None) -> Params:
    match = params.label.match.model_copy(update={"window": 6, "stride": 3, "null_windows": 20})
    cem = params.label.cem.model_copy(update={"iterations": 1, "population": 4})
    labels = {"segments": 6, "prefix": 3, "reference": 4, "initial_latents": 2, "chunk": 4, "match": match, "cem": cem}
    target = {
        "rounds": 3,
        "first_updates": 4,
        "finalists": 2,
        "final_episodes": 1,
        "realign": 0,
        "imagined_weight": 0.0,
    }
    return params.model_copy(
        update={
            "dreamer": small,
            "label": params.label.model_copy(update=labels),
            "target": params.target.model_copy(update=target),
        }
    )


@pytest.fixture(params=[*SHRUNK, "dtw"])
def refine(request: pytest.FixtureRequest, tiny: Params) -> Callable[[], Refinement]:
    """A refinement on the point, 2 frames a step in the source and 1 in the target, whose reward raises."""
    name = request.param

    def make() -> Refinement:
        transfer = Transfer(tiny)
        transfer.source = seed_episodes(PointEnvironment(2), 12, 0)  # type: ignore[arg-type]
        labels = transfer.label()
        labeller: Labeller = transfer.pool
        if name != "dtw":
            settings = getattr(tiny.rivals, name).model_copy(update={"demonstrations": 3} | SHRUNK[name])
            labeller = make_labeller(settings, transfer.source, transfer.exploration, labels.scale, transfer.rates, 0)
        return Refinement(
            Point(0.5),  # type: ignore[arg-type]
            transfer.agent,
            BeliefLearner(transfer.belief, transfer.agent.model, tiny.belief, 0.1, np.random.default_rng(0)),
            transfer.reenactor,
            Knowledge(
                segments_of(Path("labels"), labels, transfer.source, tiny.label, 2),
                choose_frames(transfer.source, 20, 3, 2, np.random.default_rng(0)),
                None,
            ),
            labels._replace(replay=[labeller.label(episode) for episode in transfer.exploration]),
            labeller,
            transfer.exploration,
            400,
            0.15,
            3,
            tiny.target,
            0,
        )

    return make


def test_a_refinement_runs_on_any_labels_without_the_reward(refine: Callable[[], Refinement]) -> None:
    refinement, progress = refine(), Counting()
    refinement.run(progress, NoScratch())  # type: ignore[arg-type]
    assert progress.count == refinement.update_budget
    assert len(refinement.labels) == len(refinement.replay) == 9
    for rate, episode in zip(refinement.labels, refinement.replay.episodes, strict=True):
        assert len(rate) == len(episode)
        assert np.isfinite(rate).all()
        assert episode.reward is None
    rows = curve(refinement)
    assert rows["steps"].iloc[-1] == refinement.target_steps == (9 + 2) * 40
    refinement.environment.reset()
    with pytest.raises(AssertionError, match="touched"):
        _ = refinement.environment.step(np.zeros(1)).reward


def test_nobody_waits_for_re_enactments_that_weigh_nothing(
    refine: Callable[[], Refinement], monkeypatch: pytest.MonkeyPatch
) -> None:
    refinement = refine()

    def replay(*_: object) -> NoReturn:
        raise AssertionError("re-enacted")

    monkeypatch.setattr(refinement.reenactor, "replay", replay)
    refinement.run(Counting(), NoScratch())  # type: ignore[arg-type]
    assert refinement.imagined_labels() is None


@pytest.mark.parametrize("stop", [3, 13])
def test_one_taken_up_from_a_checkpoint_ends_in_the_same_bits(refine: Callable[[], Refinement], stop: int) -> None:
    straight = refine()
    straight.run(Counting(), NoScratch())  # type: ignore[arg-type]
    scratch = StopAt(stop)
    with pytest.raises(Stopped):
        refine().run(Counting(), scratch)  # type: ignore[arg-type]
    resumed = refine()
    resumed.run(Counting(), Kept(scratch))  # type: ignore[arg-type]
    for one, other in zip(straight.agent.parameters(), resumed.agent.parameters(), strict=True):
        assert torch.equal(one, other)
    assert straight.diary().equals(resumed.diary())
    assert all(np.array_equal(a, b) for a, b in zip(straight.labels, resumed.labels, strict=True))
