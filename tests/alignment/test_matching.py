"""Labels that stay numbers whatever is matched with what."""

from pathlib import Path

import numpy as np
import pytest

from telepath.alignment.labeller import ReplayLabels
from telepath.alignment.matching import SourcePool
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Alignments
from telepath.alignment.segments import FrameScale
from telepath.config import Params
from telepath.episodes import Episode
from telepath.errors import UserError
from telepath.transfer.labels import Labels
from tests.reliability.artefacts import LABEL_ARRAYS

RECORDS = 40


def walk(seed: int, start: float = 0.0) -> Episode:
    """A slow walk in three dimensions, paid where the first one is high."""
    track = start + np.cumsum(np.random.default_rng(seed).standard_normal((RECORDS, 3)), 0).astype(np.float32)
    return Episode(track, np.zeros((RECORDS, 1), np.float32), (track[:, 0] > 0).astype(np.float32), False)


def pool_of(params: Params, episodes: int = 6, **changes: float) -> SourcePool:
    settings = params.label.match.model_copy(update={"worth": 0.0, "null_windows": 20, **changes})
    source = [walk(seed) for seed in range(episodes)]
    return SourcePool(source, FrameScale.fit(source), Rates(1, 1, 0.1), settings)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("start", "tolerance"), [(0.0, 1e-6), (1e4, 3.0)])
def test_where_no_match_counts_there_is_no_label(params: Params, start: float, tolerance: float) -> None:
    found = pool_of(params, prior=0.0, tolerance=tolerance).label(walk(9, start))
    assert not found.rate.any()
    assert not found.confidence.any()


@pytest.mark.parametrize(("episodes", "candidates"), [(1, 32), (6, 1)])
def test_a_source_that_is_not_like_itself_is_told(params: Params, episodes: int, candidates: int) -> None:
    with pytest.raises(UserError, match=r"^params\.yaml: label\.match\.candidates: among \d+ .*; choose more"):
        pool_of(params, episodes, candidates=candidates)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["replay_rate", "replay_confidence", "tau", "cost"])
def test_labels_that_are_not_finite_are_not_written(tmp_path: Path, name: str, value: float) -> None:
    arrays = {**LABEL_ARRAYS, name: np.full_like(LABEL_ARRAYS[name], value)}
    labels = Labels(
        FrameScale(arrays["scale"]),
        arrays["origin"],
        Alignments(*(arrays[field] for field in Alignments._fields)),
        [ReplayLabels(arrays["replay_rate"], arrays["replay_confidence"])],
        float(arrays["tau"]),
    )
    with pytest.raises(UserError, match=rf"^params\.yaml: label(\.match)?: {name} came out with numbers that are not"):
        labels.save(tmp_path / "labels.npz")
    assert not (tmp_path / "labels.npz").exists()
