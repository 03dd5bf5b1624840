"""The label stage computes where it is told to, and nothing of a search comes to the host.

The meta device stands in for a GPU: it has no memory, so whatever looks at a value there raises.
"""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stages import label as stage
from stages.artefacts import SOURCE_EPISODES
from telepath.alignment.reenact import Reenactor
from telepath.config import Params
from telepath.dreamer.behavior import Actor
from telepath.episodes import Episode
from tests.conftest import Counting, NoScratch
from tests.transfer.test_target import Transfer, tiny  # noqa: F401

GPU = torch.device("meta")


@pytest.fixture
def given(tiny: Params, monkeypatch: pytest.MonkeyPatch) -> tuple[Reenactor, Actor]:  # noqa: F811
    """What the stage has its segments re-enacted by."""
    transfer, asked = Transfer(tiny), list[Any]()

    def episodes(path: Path, **_: Any) -> list[Episode]:
        return transfer.source if path == SOURCE_EPISODES else transfer.exploration

    def chosen(*, frames: bool) -> torch.device:
        assert not frames
        return GPU

    def label(*arguments: Any) -> SimpleNamespace:
        asked.extend(arguments)
        return SimpleNamespace(save=lambda path: None)

    monkeypatch.setattr(stage.Agent, "load", lambda *_: transfer.agent)
    monkeypatch.setattr(stage.BeliefNet, "load", lambda *_: transfer.belief)
    monkeypatch.setattr(stage, "load_episodes", episodes)
    monkeypatch.setattr(stage, "training_device", chosen)
    monkeypatch.setattr(stage, "label", label)
    context = SimpleNamespace(progress=lambda *_: nullcontext(Counting()), scratch=lambda: nullcontext(NoScratch()))
    stage.main(tiny, context)  # type: ignore[arg-type]
    _, _, reenactor, _, _, actor, *_ = asked
    return reenactor, actor


def test_all_that_computes_is_on_the_chosen_device(given: tuple[Reenactor, Actor]) -> None:
    reenactor, actor = given
    for module in (reenactor.model, reenactor.belief, actor):
        assert {tensor.device for tensor in module.state_dict().values()} == {GPU}
    assert reenactor.distance.inverse_spread.device == GPU  # type: ignore[attr-defined]


def test_a_search_stays_there(given: tuple[Reenactor, Actor]) -> None:
    reenactor, actor = given
    start, reference = reenactor.model.initial(3), torch.zeros(3, reenactor.settings.reference, 2, device=GPU)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    with torch.no_grad():
        proposals = reenactor._propose(start, actor, generators)
    plan = reenactor._search(start, reference, generators, proposals)
    assert {tensor.device for tensor in (proposals, *plan)} == {GPU}
