import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from telepath.evaluation import figures
from telepath.evaluation.evidence import HELDOUT_POLICIES, Evidence, Reenactments


def chunks(png: bytes) -> list[bytes]:
    """The chunk types of a PNG, in order."""
    assert png.startswith(b"\x89PNG")
    found, at = [], 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        found.append(png[at + 4 : at + 8])
        at += size + 12
    return found


def test_telling_dimensions_are_those_that_move_most_on_the_frame_scale() -> None:
    swing = np.array([1.0, -1.0, 1.0, -1.0])
    reference = np.stack([0 * swing, 10 * swing, 2 * swing, 3 * swing], 1)
    assert figures.telling_dimensions(reference, np.ones(4)).tolist() == [1, 3, 2]
    assert figures.telling_dimensions(reference, np.array([1, 0.01, 1, 1])).tolist() == [3, 2, 1]
    assert figures.telling_dimensions(reference[:, :2], np.ones(2)).tolist() == [1, 0]


def test_bytes_depend_on_the_data_alone(make_evidence: Callable[..., Evidence], tmp_path: Path) -> None:
    gap = make_evidence(divergence=1.5).gap
    before = dict(mpl.rcParams)
    figures.induced_gap(gap, tmp_path / "one.png")
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9}):
        figures.induced_gap(gap, tmp_path / "two" / "two.png")
    one, two = (tmp_path / "one.png").read_bytes(), (tmp_path / "two" / "two.png").read_bytes()
    assert one == two
    assert set(chunks(one)) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}
    assert struct.unpack(">I", one[16:20]) == (1280,)


def test_the_plainest_data_can_be_drawn(tmp_path: Path) -> None:
    """One round, one episode, one iteration, one dimension, nothing paid: what a tiny run leaves."""
    curve = pd.DataFrame({"steps": [10], "updates": [1], "return": [0.0]})
    diary = pd.DataFrame({"round": [0], "steps": [20], "inferred_return": [0.0], "shipped": [1]})
    rounds = pd.DataFrame({"round": [0], "steps": [20], "return": [0.0], "low": [0.0], "high": [0.0]})
    levels = dict.fromkeys(figures.NAMES, 0.0)
    figures.learning_curves(curve, curve, diary, rounds, levels, "95 % interval of 5 episodes", tmp_path / "curves.png")
    returns = pd.DataFrame({"agent": ["random", "telepath"], "return": [-3.0, 0.0]})
    figures.return_bars(returns, pd.DataFrame(), 0.95, tmp_path / "returns.png")
    figures.cem_progress(np.full((1, 2), 0.1), np.full(2, 0.1), 0.2, tmp_path / "cem.png")
    flat = Reenactments(
        np.zeros((1, 2, 1)),
        np.zeros((1, 3, 1)),
        np.zeros((1, 5, 2), int),
        np.zeros(1),
        np.ones((1, 1)),
        np.ones(1),
        1.0,
        np.zeros((1, 2), int),
    )
    figures.label_origins(flat, np.zeros(1), 0.1, tmp_path / "labels.png")
    figures.drawn_alignments(flat, ["x"], 0.1, 0.05, tmp_path / "alignments.png")
    heldout = {name: np.zeros(6, np.float32) for name in ("true", "inferred", "predicted", "confidence")}
    heldout["policy"] = np.repeat([0, 1, 2], 2)
    figures.rewards(heldout, HELDOUT_POLICIES, 2, 0.05, tmp_path / "rewards.png")
    figures.induced_gap(pd.DataFrame({"seconds": [0.0, 0.1], "divergence": [0.0, 0.0]}), tmp_path / "gap.png")
    assert len(list(tmp_path.glob("*.png"))) == 7


def test_levels_that_lie_on_each_other_can_all_be_seen(tmp_path: Path) -> None:
    with figures.drawing(tmp_path / "levels.png", 2) as figure:
        axes = figure.subplots()
        figures.draw_levels(axes, {"source": 947, "random": 66, "zero_shot": 268, "action_hold": 947, "pada": 949})
        assert axes.get_legend_handles_labels()[1] == [
            "source, at home: 947",
            "zero-shot: 268",
            "action hold: 947",
            "PADA: 949",
        ]
    shown = mpl.image.imread(tmp_path / "levels.png")[..., :3]
    for agent in figures.LEVELS:
        colour = mpl.colors.to_rgb(figures.COLOURS[agent])
        assert (np.abs(shown - colour).max(-1) < 0.02).sum() > 200, agent


@pytest.mark.parametrize("trainings", [1, 3])
def test_other_trainings_are_diamonds_where_there_are_any(
    make_evidence: Callable[..., Evidence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainings: int
) -> None:
    shown: list[tuple[Any, ...]] = []
    plot = Axes.plot

    def seen(axes: Axes, *what: Any, **how: Any) -> Any:
        shown.append(what)
        return plot(axes, *what, **how)

    monkeypatch.setattr(Axes, "plot", seen)
    returns = make_evidence().returns
    means = pd.DataFrame({"seed_source": range(trainings), "commit": "abc", "telepath": 1200.0 + np.arange(trainings)})
    figures.return_bars(returns, means, 0.95, tmp_path / "returns.png")
    diamonds = np.concatenate([what[0] for what in shown if what[2:] == ("D",)])
    assert diamonds[~np.isnan(diamonds)].tolist() == ([1200, 1201, 1202] if trainings == 3 else [])
