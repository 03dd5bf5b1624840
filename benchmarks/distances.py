"""Which distance finds the better re-enactments from pixels: decoded frames, or latents?

    python -m benchmarks.distances [--updates 500] [--belief 300] [--segments 24] [--out reports/benchmarks]

A world model and a belief net of ball_in_cup-catch learn from frames of random episodes. Pieces of *other* episodes,
seen at half their rate as a source would be, are then re-enacted by search under each distance. What was really there
is known: the simulator's state, recorded beside the frames and never shown to the model. A linear map from latents to
states, fitted on the training episodes, tells in which state each imagined step is; compared is its distance along the
warping path to the piece's true states, in units of their spread (mean over dimensions of the squared error, median
over the pieces). Bounds: the piece's own actions, and no actions at all. Writes distances.csv.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from telepath.alignment.belief import BeliefTraining
from telepath.alignment.projection import Projection
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Alignments, Reenactor
from telepath.alignment.segments import Segments, resample
from telepath.config import load
from telepath.dreamer.learner import ModelLearner, filtered_features
from telepath.dreamer.replay import Replay
from telepath.dreamer.rssm import WorldModel
from telepath.envs.rollout import seed_episodes
from telepath.envs.suite import Environment
from telepath.episodes import Array, Episode
from telepath.observations import SIDE, Observation, frames_of
from telepath.runtime.progress import Progress

TASK, REPEAT, RATIO = "ball_in_cup-catch", 3, 2
HELD_OUT = 3
RIDGE = 1.0


def split(episode: Episode, dim: int) -> tuple[Episode, Array]:
    """An episode of frames alone, and its states (T, D)."""
    below = episode.observation[:, SIDE:].reshape(len(episode), -1)[:, : 4 * dim]
    frames = np.ascontiguousarray(frames_of(episode.observation))
    return Episode(frames, episode.action, None), np.ascontiguousarray(below).view(np.float32)


def fitted(feature: Tensor, state: Array) -> Array:
    """Weights (F + 1, D) of the linear map from features (n, F) to states (n, D)."""
    inputs = np.concatenate([feature.numpy(), np.ones((len(feature), 1))], 1).astype(np.float64)
    gram = inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(gram, inputs.T @ state))


def told(feature: Tensor, weights: Array) -> Array:
    """States (..., D) of features (..., F)."""
    return np.asarray(feature.numpy() @ weights[:-1] + weights[-1])


def state_error(found: Alignments, imagined: Array, wanted: Array, spread: Array) -> float:
    """Median over segments of the mean squared state error along the warping path, in units of the spread.

    imagined (M, S, D), wanted (S, N, D).
    """
    errors = []
    for s, path in enumerate(found.path):
        pairs = np.unique(path, axis=0)
        gap = (wanted[s, pairs[:, 0]] - imagined[pairs[:, 1], s]) / spread
        errors.append(float(np.square(gap).mean()))
    return float(np.median(errors))


def main() -> None:
    """Learn, search, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--belief", type=int, default=300)
    parser.add_argument("--segments", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    params, rng = load(), np.random.default_rng(0)
    dreamer = params.dreamer.model_copy(update={"batch": 8})
    environment = Environment(TASK, REPEAT, 0, rewarded=False, observation="pixels+state")
    dim, rates = environment.observation_dim, Rates(RATIO * REPEAT, REPEAT, environment.frame_seconds)
    both = [split(episode, dim) for episode in seed_episodes(environment, asked.episodes, 0)]
    seen, held = both[HELD_OUT:], both[:HELD_OUT]
    replay = Replay([episode for episode, _ in seen])
    model = WorldModel(Observation("pixels", 0), environment.action_dim, dreamer)
    learner = ModelLearner(model, dreamer, torch.Generator().manual_seed(0))
    with Progress("world model", asked.updates, "updates") as progress:
        for _ in range(asked.updates):
            _, figures = learner.update(replay.sample(dreamer.batch, dreamer.length, rng))
            progress.advance(1, **figures)
    settings = params.belief.model_copy(update={"updates": asked.belief, "batch": 8})
    training = BeliefTraining(model, replay, rates.target_step_seconds, settings, 0)
    with Progress("belief", asked.belief, "updates") as progress:
        training.run(progress, NoScratch())  # type: ignore[arg-type]
    weights = fitted(
        torch.cat([filtered_features(model, episode) for episode, _ in seen]), np.concatenate([s for _, s in seen])
    )
    spread = np.concatenate([state for _, state in both]).std(0)
    filtered = [told(filtered_features(model, episode), weights) - state for episode, state in held]
    rows = [("filtered, all frames", float(np.square(np.concatenate(filtered) / spread).mean()), np.nan)]
    scale = Projection.fit([episode for episode, _ in seen])
    for distance in ("decoded", "latent"):
        label = params.label.model_copy(update={"distance": distance})
        reenactor = Reenactor(model, training.net, scale, rates, label)
        segments, wanted, actions = cut(held, reenactor, asked.segments, np.random.default_rng(1))
        seeds = np.arange(len(segments))
        begin = time.process_time()
        lots = [seeds[n : n + label.chunk] for n in range(0, len(seeds), label.chunk)]
        found = Alignments.join([reenactor.align(segments.take(lot), lot) for lot in lots])
        seconds = (time.process_time() - begin) / len(segments)
        mean = np.zeros((len(segments), model.feature_dim), np.float32)
        kinds = {
            "found": found,
            "own actions": reenactor.replay(segments, mean, actions),
            "no actions": reenactor.replay(segments, mean, np.zeros_like(actions)),
        }
        for kind, alignments in kinds.items():
            latent, _ = reenactor.latents(segments, alignments.noise, alignments.actions)
            error = state_error(alignments, told(latent.feature, weights), wanted, spread)
            rows.append((f"{distance}, {kind}", error, seconds if kind == "found" else np.nan))
    table = pd.DataFrame(rows, columns=["how", "state_error", "cpu_seconds_a_segment"])
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    asked.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(asked.out / "distances.csv", index=False, float_format="%.4g")


def cut(
    held: list[tuple[Episode, Array]], reenactor: Reenactor, count: int, rng: np.random.Generator
) -> tuple[Segments, Array, Array]:
    """Pieces of held-out episodes at the source's rate, their true states (S, N, D) and own actions (S, M, A)."""
    settings = reenactor.settings
    first, after = RATIO * (settings.prefix - 1), max(reenactor.length, RATIO * settings.reference)
    prefix, reference, wanted, actions, origin = [], [], [], [], []
    for _ in range(count):
        number = int(rng.integers(len(held)))
        episode, state = held[number]
        t = int(rng.integers(first, len(episode) - after))
        prefix.append(resample(episode.observation, t - RATIO * np.arange(settings.prefix - 1, -1, -1)))
        later = t + RATIO * np.arange(1, settings.reference + 1)
        reference.append(episode.observation[later])
        wanted.append(state[later])
        actions.append(episode.action[t + 1 : t + 1 + reenactor.length])
        origin.append((number, t))
    unpaid = np.zeros((count, settings.reference), np.float32)
    segments = Segments(np.stack(prefix), np.stack(reference), unpaid, np.array(origin))
    return segments, np.stack(wanted), np.stack(actions)


class NoScratch:
    """Keeps nothing: this takes minutes."""

    def load(self) -> None:
        """No checkpoint."""

    def save_if_due(self, make_state: object) -> bool:
        """Never."""
        return False


if __name__ == "__main__":
    main()
