"""The cells of the benchmark grid: which task, gap, setting and seed, and what that means in params.yaml."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

from telepath.evaluation.rivals import LABELLED, ONLINE, RIVALS

SETTINGS = ("with source agent", "trajectories only")
ORACLES = ("oracle", "converged oracle")

RATES = {"ball_in_cup-catch": (6, 3), "walker-walk": (3, 1), "cheetah-run": (4, 2)}
"""Action repeat of source and target in the gap of rates."""

RATIOS = {"ball_in_cup-catch": 0.6}
"""Updates a target step where the preset is made for the minutes of a default run: a cell has a quarter of an hour."""

GRAVITY = {"walker-walk": 1.5}
"""Where twice the gravity is more than the task allows."""

GAPS = ("rate", "mass 1.5", "mass 0.5", "gravity", "gear 0.5", "rate, mass 1.5")
EXTRA = ("walker-walk", "rate 2 to 1")
"""A row of its own, from a source at another rate."""

BESIDE = (SETTINGS[0], ORACLES[0], *reversed(RIVALS))
"""All rivals, roughly the longest first, and those whom they are compared with."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "untrained belief net": {"belief.updates": 1, "target.belief_every": 10**9},
    "one initial latent": {"label.initial_latents": 1},
    "no warping": {"label.band": 0.0, "label.slack": 0.0, "label.match.band": 0.0, "label.match.slack": 0.0},
    "mean instead of proportional split": {"label.split": "mean"},
    "labels count alike, whatever they cost": {"label.tolerance": 1e6, "label.match.tolerance": 1e6},
    "matching by observations alone": {"label.match.worth": 0.0},
    "source frames without re-enactments": {"label.segments": 1, "target.realign": 0},
    "labels of real replay alone": {"target.imagined_weight": 0.0, "target.realign": 0},
    "random exploration": {"explore.random": 1.0, "explore.source_policy": 0.0},
    "four rounds instead of ten": {"target.rounds": 4},
    "no beginnings": {"target.beginnings": 0.0},
    "no averages, no trials": {"target.average_rate": 1.0, "target.trials": 1},
}
"""What Telepath *with source agent* is without one of its parts: a name, and what differs in params.yaml.

"No warping" leaves the diagonal alone, which at equal rates is the Euclidean distance. Re-enactments cannot be left out
altogether: one is left. Without both them and the source's frames there is nothing imagined. What is without the warm
start is *trajectories only*.
"""

ABLATED = (("ball_in_cup-catch", "rate"), ("walker-walk", "mass 1.5"))
"""The task and gap of the ablations."""

CONVERGED = 4.0
"""Multiple of Telepath's target steps after which an oracle counts as converged."""


class Cell(NamedTuple):
    """A transfer, an oracle or a rival: ``setting`` is of ``SETTINGS``, ``ABLATIONS``, ``ORACLES`` or ``RIVALS``."""

    task: str
    gap: str
    setting: str
    seed: int

    @property
    def name(self) -> str:
        """A file name."""
        return "__".join((self.task, self.gap, self.setting, str(self.seed))).replace(", ", "-").replace(" ", "-")

    @property
    def agent(self) -> str:
        """Who is trained, as the tables of returns call it."""
        if self.setting in RIVALS:
            return self.setting
        return "oracle" if self.setting in ORACLES else "telepath"

    @property
    def target(self) -> str:
        """The stage that ``dvc repro`` is to bring up to date."""
        if self.setting in RIVALS and self.setting != "pada":
            return f"rivals/dvc.yaml:evaluate_rival@{self.setting}"
        return {"telepath": "evaluate", "oracle": "evaluate_oracle", "pada": "evaluate_pada"}[self.agent]

    @property
    def has_source(self) -> bool:
        """Whether it begins with a trained source agent."""
        return self.agent not in ("oracle", *ONLINE)

    @property
    def groundwork(self) -> "Iterator[tuple[str, Cell, str]]":
        """What it shares with others, in order: a name, the cell under whose settings, and the stage that makes it.

        The sources of cells with the same task, action repeat and seed are one; and all that is Telepath's own
        refinement, with other labels or without a part, begins with its exploration and its labels.
        """
        if self.has_source:
            repeat = self.overrides()[f"tasks.{self.task}.action_repeat"]
            yield f"source of {self.task} at {repeat} frames a step, seed {self.seed}", self, "train_source"
        if self.setting in (SETTINGS[0], *LABELLED, *ABLATIONS):
            telepath = self._replace(setting=SETTINGS[0])
            yield f"labels of {telepath.name}", telepath, "label"

    def overrides(self) -> dict[str, Any]:
        """What differs from the params.yaml at hand: dotted keys."""
        source, fast = (2, 1) if (self.task, self.gap) == EXTRA else RATES[self.task]
        changed: dict[str, Any] = {
            "task": self.task,
            f"tasks.{self.task}.action_repeat": source,
            "gap.action_repeat": fast if self.gap.startswith("rate") else source,
            "seed.source": self.seed,
            "seed.target": self.seed,
        }
        if self.task in RATIOS:
            changed[f"tasks.{self.task}.refine_ratio"] = RATIOS[self.task]
        if "mass" in self.gap:
            changed["gap.mass"] = float(self.gap.rpartition(" ")[2])
        elif self.gap == "gravity":
            changed["gap.gravity"] = GRAVITY.get(self.task, 2.0)
        elif self.gap == "gear 0.5":
            changed["gap.gear"] = 0.5
        if self.setting not in ORACLES:
            changed["setting"] = self.setting if self.setting in SETTINGS else SETTINGS[0]
            changed |= ABLATIONS.get(self.setting, {})
        elif self.setting == ORACLES[1]:
            changed["oracle.step_multiple"] = CONVERGED
        return changed


def planned() -> Iterator[Cell]:
    """All cells that the benchmark is to have, those first that teach the most."""
    everywhere = [*GAPS, EXTRA[1]]
    yield from grid(RATES, everywhere, SETTINGS[:1], [0])
    yield from grid(RATES, GAPS, [ORACLES[1]], [0])
    yield from grid(RATES, GAPS[:2], [SETTINGS[1], ORACLES[0]], [0, 1, 2])
    yield from grid(RATES, everywhere, SETTINGS[:1], [1, 2])
    for seed, (task, gap) in product((0, 1), ABLATED):
        yield from grid([task], [gap], ABLATIONS, [seed])


def grid(tasks: Iterable[str], gaps: Iterable[str], settings: Iterable[str], seeds: Iterable[int]) -> Iterator[Cell]:
    """All cells of these lists; seeds outermost, so that an unfinished grid is broad; ``EXTRA`` for its task only."""
    for seed, setting, gap, task in product(seeds, settings, gaps, tasks):
        if gap != EXTRA[1] or task == EXTRA[0]:
            yield Cell(task, gap, setting, seed)
