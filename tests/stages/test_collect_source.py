"""The seed episodes, collected by a stage that is killed."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from stages import collect_source
from stages.artefacts import SOURCE_SEEDS
from telepath.config import Params
from telepath.envs.rollout import seed_episode, seed_episodes
from telepath.envs.suite import Environment
from telepath.episodes import Episode, load_episodes
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch


def test_killed_it_goes_on_with_the_next_episode(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SOURCE_SEEDS.parent.mkdir(parents=True)
    params = params.model_copy(update={"source": params.source.model_copy(update={"seed_episodes": 4})})
    told: list[int] = []
    context = SimpleNamespace(
        scratch=lambda: Scratch(tmp_path / "scratch"),
        tell_divergences=told.append,
        progress=lambda total, unit: Progress("collect_source", total, unit),
    )
    numbers: list[int] = []

    def killed(environment: Environment, seed: int, number: int) -> Episode:
        numbers.append(number)
        if len(numbers) in (2, 4):
            raise KeyboardInterrupt
        return seed_episode(environment, seed, number)

    monkeypatch.setattr(collect_source, "seed_episode", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            collect_source.main(params, context)  # type: ignore[arg-type]
    collect_source.main(params, context)  # type: ignore[arg-type]
    assert numbers == [0, 1, 1, 2, 2, 3]
    assert told == [0]
    environment = Environment(params.task, params.tasks[params.task].action_repeat, params.seed.source)
    dims = environment.observation, environment.action_dim
    for found, wanted in zip(
        load_episodes(SOURCE_SEEDS, rewarded=True, dims=dims),
        seed_episodes(environment, 4, params.seed.source),
        strict=True,
    ):
        assert found.observation.tobytes() == wanted.observation.tobytes()
        assert found.action.tobytes() == wanted.action.tobytes()
