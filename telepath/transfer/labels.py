"""The labels of a transfer: re-enacted segments, inferred rewards of the exploration replay, and their home on disk."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from telepath.alignment.labeller import ReplayLabels
from telepath.alignment.matching import SourcePool
from telepath.alignment.projection import INPUTS, Projection
from telepath.alignment.reenact import Alignments, Reenactor
from telepath.alignment.segments import FrameScale, Scale, Segments, choose_origins, chunk_indices, cut_segments
from telepath.dreamer.behavior import Actor
from telepath.episodes import Array, Episode, demand, load_arrays, save_arrays
from telepath.errors import UserError
from telepath.observations import Observation
from telepath.runtime.environment import Executor
from telepath.runtime.executor import each
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.settings import LabelSettings

HERE = Executor()
"""In this process."""

STATE_KINDS = {"scale": "f1", "observation": "f3"}
FRAME_KINDS = {"mean": "f1", "basis": "f2", "spread": "f0", "observation": "u5"}
KINDS = {
    "origin": "i2",
    "tau": "f0",
    "length": "i1",
    "replay_rate": "f1",
    "replay_confidence": "f1",
    "noise": "f2",
    "actions": "f3",
    "path": "i3",
    "rate": "f2",
    "coverage": "f2",
    "cost": "f1",
    "history": "f2",
}
"""The arrays on disk, as ``episodes.demand`` reads it; besides those of states or of frames."""


class Labels(NamedTuple):
    """What the label stage leaves.

    scale: on which real replay was matched; origin (S, 2): where the segments were cut from the source episodes;
    alignments: their re-enactments; replay: labels of the exploration episodes, in their order; tau: the cost a path
    cell at which a re-enactment counts 1/e.
    """

    scale: Scale
    origin: Array
    alignments: Alignments
    replay: list[ReplayLabels]
    tau: float

    def save(self, path: Path) -> None:
        """Write the labels, deterministic bytes; ``UserError`` where one is not finite: nobody could read them."""
        arrays = {
            **self.scale.arrays(),
            "origin": self.origin,
            "tau": np.array(self.tau),
            "length": np.array([len(labels.rate) for labels in self.replay]),
            "replay_rate": np.concatenate([labels.rate for labels in self.replay]),
            "replay_confidence": np.concatenate([labels.confidence for labels in self.replay]),
            **self.alignments._asdict(),
        }
        for name, array in arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                part = "label.match" if name.startswith("replay") else "label"
                raise UserError(
                    f"params.yaml: {part}: {name} came out with numbers that are not finite, so {path} is not written; "
                    "go back towards the settings that came with the project"
                )
        save_arrays(path, arrays)

    @staticmethod
    def load(path: Path, exploration: list[Episode], observation: Observation | int) -> "Labels":
        """Read the labels; those of another exploration, task or kind of observation are a ``UserError``."""
        observation = Observation.of(observation)
        kinds = KINDS | (FRAME_KINDS if observation.has_frames else STATE_KINDS)
        stored = load_arrays(path, list(kinds))
        demand(path, stored, kinds)
        scale: Scale
        if observation.has_frames:
            scale = Projection(stored["mean"], stored["basis"], float(stored["spread"]))
            fits = scale.basis.shape[0] == len(scale.mean) == INPUTS and scale.spread > 0
        else:
            scale = FrameScale(stored["scale"])
            fits = scale.inverse.shape == observation.shape and (scale.inverse > 0).all()
        count, total = len(stored["origin"]), sum(len(e) for e in exploration)
        steps = stored["observation"].shape[1]
        fit = [
            fits,
            count > 0,
            stored["actions"].shape[1:] == (steps, exploration[0].action.shape[1]),
            stored["rate"].shape[1] == stored["coverage"].shape[1] == steps,
            stored["path"].shape[2] == 2 and (stored["path"] >= 0).all() and (stored["path"][..., 1] < steps).all(),
            stored["length"].tolist() == [len(e) for e in exploration],
            len(stored["replay_rate"]) == len(stored["replay_confidence"]) == total,
            stored["origin"].shape[1] == 2,
            stored["observation"].shape[2:] == observation.shape,
            stored["history"].shape[1] == count,
            all(len(stored[name]) == count for name in Alignments._fields if name != "history"),
        ]
        if not all(fit):
            raise UserError(f"{path}: holds labels for other exploration data, or none; run `dvc repro` to remake it")
        cuts = np.cumsum(stored["length"])[:-1]
        replay = [
            ReplayLabels(rate, confidence)
            for rate, confidence in zip(
                np.split(stored["replay_rate"], cuts), np.split(stored["replay_confidence"], cuts), strict=True
            )
        ]
        alignments = Alignments(*(stored[name] for name in Alignments._fields))
        return Labels(scale, stored["origin"], alignments, replay, float(stored["tau"]))

    def demand(self, path: Path, reenactor: Reenactor) -> None:
        """Raise ``UserError`` where they are none of this model's, or of other lengths; ``path`` is where they were
        read.
        """
        found, wanted = self.alignments, (reenactor.model.feature_dim, reenactor.length)
        if (found.noise.shape[1], found.actions.shape[1]) != wanted:
            raise UserError(f"{path}: holds re-enactments of another model or length; run `dvc repro` to remake it")
        if not (found.path[..., 0] < reenactor.settings.reference).all():
            raise UserError(f"{path}: path matches records that no reference has; run `dvc repro` to remake it")


def label(
    source: list[Episode],
    exploration: list[Episode],
    reenactor: Reenactor,
    pool: SourcePool,
    settings: LabelSettings,
    actor: Actor | None,
    seed: int,
    progress: Progress,
    scratch: Scratch,
    where: Executor = HERE,
) -> Labels:
    """Choose segments, re-enact them chunk by chunk (resumably, ``where`` it is said), and match the exploration replay
    with the source.

    A segment's re-enactment depends on nothing but itself and its own random stream: who does it, and in which chunk,
    changes no bit.
    """
    rng = np.random.default_rng(seed)
    origin = choose_origins(source, settings.segments, settings.prefix, settings.reference, rng)
    segments = cut_segments(source, origin, settings.prefix, settings.reference, reenactor.rates.source_repeat)
    seeds = rng.integers(2**31, size=len(segments))
    chunks = chunk_indices(len(segments), settings.chunk)
    done = {number: Alignments(**part) for number, part in scratch.load_parts().items()}
    progress.advance(sum(len(chunk.cost) for chunk in done.values()))
    ahead = {n: (segments.take(index), seeds[index]) for n, index in enumerate(chunks) if n not in done}
    with contextlib.closing(each(align_chunk, (reenactor, actor), ahead, where)) as results:
        for number, chunk in results:
            scratch.save_part(number, chunk._asdict())
            done[number] = chunk
            progress.advance(len(chunk.cost), cost=float(np.median(np.concatenate([c.cost for c in done.values()]))))
    replay = []
    for episode in exploration:
        replay.append(pool.label(episode))
        progress.advance(1, confidence=float(replay[-1].confidence.mean()))
    tau = settings.tolerance * reenactor.null_cost(exploration, settings.null_segments, rng)
    return Labels(reenactor.scale, origin, Alignments.join([done[n] for n in range(len(chunks))]), replay, tau)


def align_chunk(shared: tuple[Reenactor, Actor | None], chunk: tuple[Segments, Array]) -> Alignments:
    """The re-enactments of some segments, each with its own seed."""
    (reenactor, actor), (segments, seeds) = shared, chunk
    return reenactor.align(segments, seeds, actor)


def segments_of(
    path: Path, labels: Labels, source: list[Episode], settings: LabelSettings, source_repeat: int
) -> Segments:
    """The segments that were labelled, cut anew from the source episodes; ``UserError`` where those are others.

    path: where the labels were read.
    """
    number, last = labels.origin.T
    lengths = np.array([len(episode) for episode in source])
    known = (number >= 0) & (number < len(source))
    if known.all():
        known = (settings.prefix - 1 <= last) & (last + settings.reference < lengths[number])
    if not known.all():
        raise UserError(f"{path}: holds labels of other source episodes; run `dvc repro` to remake it")
    return cut_segments(source, labels.origin, settings.prefix, settings.reference, source_repeat)
