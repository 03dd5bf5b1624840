"""Which distance finds the better re-enactments from pixels: decoded frames, or latents?

    python -m benchmarks.distances --run .telepath/benchmark/worker-pixels [--segments 24] [--episodes 16]
        [--out reports/benchmarks]

``--run``: where a pipeline from pixels has run, as `python -m benchmarks.pixels` leaves it; its source agent, target
model and belief net are measured. Fresh target episodes, half of the source's policy, held at its pace, half of random
actions, are cut into pieces. Seen at the source's rate as if they were its segments, these are re-enacted by search
under each distance. What was really there is known: the simulator's state, recorded beside the frames and shown to no
model. A linear map from latents to states, fitted on every other pair of episodes, tells in which state each imagined
step is; compared is its distance along the warping path to the piece's true states, in units of their spread (mean over
dimensions of the squared error; median over the pieces, with a 95 % bootstrap interval).

Beside what is found stand the piece's own actions, and no actions at all. Where its own actions are not clearly better
than none, intervals apart, the model does not know well enough what actions do, and its row says nothing of a distance.
How far filtering comes, with the own actions and every frame, is what the linear map can tell at best. A core takes
some five minutes, nearly all of it for the decoded search. Writes distances.csv.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.artefacts import BELIEF, EXPLORED_AGENT, SOURCE_AGENT
from stages.harness import SETTINGS
from telepath.alignment.belief import BeliefNet
from telepath.alignment.projection import Projection
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Reenactor
from telepath.alignment.segments import Segments, resample
from telepath.config import Params, load
from telepath.dreamer.agent import Agent
from telepath.dreamer.learner import filtered_features
from telepath.envs.gaps import rate_ratio, target_environment
from telepath.envs.rollout import ActionHold, Policy, State, rollout, seed_episode
from telepath.episodes import Array, Episode
from telepath.errors import UserError
from telepath.evaluation.scores import RESAMPLES
from telepath.observations import SIDE, Observation, frames_of

CONFIDENCE = 0.95
RIDGE = 1.0
COLUMNS = ["distance", "actions", "error_median", "error_low", "error_high", "cpu_seconds_a_segment"]
OWN, NONE = "own actions", "no actions"


class Watched(NamedTuple):
    """A target episode of frames alone, and its states (T, D)."""

    episode: Episode
    state: Array


class Pieces(NamedTuple):
    """What is to be re-enacted.

    segments: at the source's rate; state (S, N, D): the true one at each reference frame; actions (S, M, A): the own
    ones; place: (episode, fractional records of the reference frames) of each.
    """

    segments: Segments
    state: Array
    actions: Array
    place: list[tuple[int, Array]]


class FramesOnly:
    """A policy that knows frames, where states are recorded below them."""

    def __init__(self, policy: Policy):
        self.policy = policy

    def reset(self, batch: int) -> None:
        """Begin ``batch`` episodes."""
        self.policy.reset(batch)

    def act(self, observation: Array) -> Array:
        """Actions for what is in the picture."""
        return self.policy.act(np.ascontiguousarray(frames_of(observation)))

    def state(self) -> State:
        """The policy's."""
        return self.policy.state()

    def restore(self, state: State) -> None:
        """Take up ``state()``."""
        self.policy.restore(state)


def watch(params: Params, source: Agent, count: int) -> list[Watched]:
    """Fresh target episodes, in turn of the source's policy and of random actions."""
    seed = 1 + max(params.seed.source, params.seed.target, params.seed.evaluate)
    environment = target_environment(params.task, params.gap, seed, rewarded=False, observation="pixels+state")
    pace = rate_ratio(params.tasks[params.task].action_repeat, params.gap.action_repeat)
    watched = []
    for number in range(count):
        if number % 2:
            episode = seed_episode(environment, seed, number)
        else:
            environment.reseed(seed, number)
            (episode,) = rollout([environment], FramesOnly(ActionHold(source.policy(seed=number), pace)))
        watched.append(split(episode, environment.observation_dim))
    return watched


def split(episode: Episode, dim: int) -> Watched:
    """What was seen, and what was there."""
    below = episode.observation[:, SIDE:].reshape(len(episode), -1)[:, : 4 * dim]
    frames = np.ascontiguousarray(frames_of(episode.observation))
    return Watched(Episode(frames, episode.action, None), np.ascontiguousarray(below).view(np.float32))


def cut(watched: list[Watched], reenactor: Reenactor, count: int, rng: np.random.Generator) -> Pieces:
    """Pieces of all episodes in turn, at random times."""
    settings, ratio = reenactor.settings, reenactor.rates.ratio
    first = math.ceil(ratio * (settings.prefix - 1))
    after = max(reenactor.length, math.ceil(ratio * settings.reference))
    prefix, reference, state, actions, origin, place = [], [], [], [], [], []
    for n in range(count):
        number = n % len(watched)
        episode, states = watched[number]
        t = int(rng.integers(first, len(episode) - after))
        later = t + ratio * np.arange(1, settings.reference + 1)
        prefix.append(resample(episode.observation, t - ratio * np.arange(settings.prefix - 1, -1, -1)))
        reference.append(resample(episode.observation, later))
        state.append(resample(states, later))
        actions.append(episode.action[t + 1 : t + 1 + reenactor.length])
        origin.append((number, t))
        place.append((number, later))
    unpaid = np.zeros((count, settings.reference), np.float32)
    segments = Segments(np.stack(prefix), np.stack(reference), unpaid, np.array(origin))
    return Pieces(segments, np.stack(state), np.stack(actions), place)


def fitted(feature: Tensor, state: Array) -> Array:
    """Weights (F + 1, D) of the linear map from features (n, F) to states (n, D)."""
    inputs = np.concatenate([feature.numpy(), np.ones((len(feature), 1))], 1).astype(np.float64)
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(gram, inputs.T @ state))


def told(feature: Tensor, weights: Array) -> Array:
    """States (..., D) of features (..., F)."""
    return np.asarray(feature.numpy() @ weights[:-1] + weights[-1])


def state_errors(paths: Array, imagined: Array, wanted: Array, spread: Array) -> Array:
    """The mean squared state error of each segment along its warping path (S, L, 2), in units of the spread: (S,).

    imagined (M, S, D), wanted (S, N, D).
    """
    errors = []
    for s, path in enumerate(paths):
        pairs = np.unique(path, axis=0)  # rows behind a path's end repeat the last pair
        gap = (wanted[s, pairs[:, 0]] - imagined[pairs[:, 1], s]) / spread
        errors.append(np.square(gap).mean())
    return np.array(errors)


def median_interval(errors: Array) -> tuple[float, float, float]:
    """The median of (S,) and the percentile bootstrap interval over the S."""
    drawn = np.random.default_rng(0).integers(0, len(errors), (RESAMPLES, len(errors)))
    low, high = np.quantile(np.median(errors[drawn], 1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(np.median(errors)), float(low), float(high)


def judged(rows: list[tuple[str, str, Array, float]]) -> pd.DataFrame:
    """``COLUMNS`` of (distance, actions, errors, seconds), and own_beat_none: whether its rows say anything."""
    table = pd.DataFrame([(*row[:2], *median_interval(row[2]), row[3]) for row in rows], columns=COLUMNS)
    by = table.set_index(["distance", "actions"])
    beats = {
        name: "yes" if by["error_high"][name, OWN] < by["error_low"][name, NONE] else "no"
        for name, kind in by.index
        if kind == OWN
    }
    table["own_beat_none"] = table["distance"].map(beats).fillna("")
    return table


def measure(run: Path, segments: int, episodes: int) -> pd.DataFrame:
    """The table of a run; ``UserError`` where it has not come so far, or is not from pixels."""
    params = load(run / SETTINGS)
    if params.observation != "pixels":
        raise UserError(f"{run / SETTINGS}: observation is {params.observation}; name a run from pixels")
    target = target_environment(params.task, params.gap, 0, rewarded=False)
    dims = Observation("pixels", 0), target.action_dim
    source = Agent.load(run / SOURCE_AGENT, params.task, params.observation, dims)
    model = Agent.load(run / EXPLORED_AGENT, params.task, params.observation, dims).model
    belief = BeliefNet.load(run / BELIEF, model, params.belief)
    rates = Rates(params.tasks[params.task].action_repeat, params.gap.action_repeat, target.frame_seconds)
    print(f"{episodes} fresh episodes", flush=True)
    watched = watch(params, source, episodes)
    with torch.no_grad():
        features = [filtered_features(model, episode) for episode, _ in watched]
    # Of two pairs, each of both kinds of actions, one is for the linear map and one to be cut.
    fit, held = ([n for n in range(episodes) if n // 2 % 2 == which] for which in (0, 1))
    weights = fitted(torch.cat([features[n] for n in fit]), np.concatenate([watched[n].state for n in fit]))
    spread = np.concatenate([state for _, state in watched]).std(0)
    scale = Projection.fit([watched[n].episode for n in fit])
    rows: list[tuple[str, str, Array, float]] = []
    for distance in ("decoded", "latent"):
        settings = params.label.model_copy(update={"distance": distance})
        reenactor = Reenactor(model, belief, scale, rates, settings)
        pieces = cut([watched[n] for n in held], reenactor, segments, np.random.default_rng(1))
        if not rows:
            states = [resample(told(features[held[n]], weights), place) for n, place in pieces.place]
            error = np.square((np.stack(states) - pieces.state) / spread).mean((1, 2))
            rows.append(("neither", "filtered, every frame", error, np.nan))
        print(f"{distance}: {segments} segments", flush=True)
        begin = time.process_time()
        found = reenactor.align(pieces.segments, np.arange(segments))
        seconds = (time.process_time() - begin) / segments
        mean = np.zeros((segments, model.feature_dim), np.float32)
        kinds = {
            "found": found,
            OWN: reenactor.replay(pieces.segments, mean, pieces.actions),
            NONE: reenactor.replay(pieces.segments, mean, np.zeros_like(pieces.actions)),
        }
        for kind, alignments in kinds.items():
            latent, _ = reenactor.latents(pieces.segments, alignments.noise, alignments.actions)
            error = state_errors(alignments.path, told(latent.feature, weights), pieces.state, spread)
            rows.append((distance, kind, error, seconds if kind == "found" else np.nan))
    return judged(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--segments", type=int, default=24)
    parser.add_argument("--episodes", type=int, default=16, help="a multiple of 4")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    asked = parser.parse_args(arguments)
    if asked.episodes < 4 or asked.episodes % 4 or asked.segments < 1:
        parser.error("--episodes is a multiple of 4, --segments at least 1")
    torch.set_num_threads(1)
    try:
        table = measure(asked.run, asked.segments, asked.episodes)
    except UserError as error:
        sys.exit(f"telepath: {error}")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    for name in table.loc[table["own_beat_none"] == "no", "distance"].unique():
        print(f"{name}: the own actions are not clearly better than none; this model cannot tell how good it is")
    asked.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(asked.out / "distances.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
