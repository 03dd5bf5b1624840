"""Re-enactment: the target actions that, in the target model's imagination, come closest to an observed source segment.

For every segment: belief over the model's latent at the last prefix frame -> several initial latents -> CEM over action
sequences, each candidate imagined, decoded and compared with the reference by open-end DTW -> the warping path of the
best one -> rewards on its imagined latents.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from telepath.alignment.belief import BeliefNet, believe, initial_latents, to_latent
from telepath.alignment.cem import Plan, search, white_noise
from telepath.alignment.diagonals import dtw_tensors
from telepath.alignment.distance import distance_for
from telepath.alignment.dtw import dtw_path, window_of
from telepath.alignment.rates import Rates
from telepath.alignment.rewards import split_rewards
from telepath.alignment.segments import Scale, Segments, chunk_indices, resample
from telepath.dreamer.behavior import Actor
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.episodes import Array, Episode
from telepath.errors import Fault, UserError
from telepath.settings import LabelSettings


class Alignments(NamedTuple):
    """Re-enacted segments, S of them.

    noise (S, F): which sample of the belief each one begins from; actions (S, M, A); observation (S, M, *shape)
    decoded; path (S, L, 2): (reference, candidate) pairs, rows behind a path's end repeat its last pair; rate (S, M)
    inferred and coverage (S, M); cost (S,): DTW cost per path cell, in mean squared spreads; history (iterations, S):
    best cost per reference frame over the CEM iterations.
    """

    noise: Array
    actions: Array
    observation: Array
    path: Array
    rate: Array
    coverage: Array
    cost: Array
    history: Array

    @staticmethod
    def join(parts: list["Alignments"]) -> "Alignments":
        """Several lots of segments as one."""
        axes = {"history": 1}
        return Alignments(
            **{f: np.concatenate([getattr(p, f) for p in parts], axes.get(f, 0)) for f in Alignments._fields}
        )


def imagine_actions(model: WorldModel, start: Latent, actions: Tensor) -> Latent:
    """Latents (M, B, ...) after actions (M, B, A), along prior means: CEM must not fish for lucky noise."""
    return model.as_latent(torch.stack([feature.clone() for feature in model.imagine(start, actions)]))


GPU_LOTS = 32
"""So many times as many rollouts does a GPU imagine at a time: enough to keep it busy, and still a bound: some 3 GB of
decoded frames, or 100 MB of states.
"""

FEWEST = 8
"""Rows below which a matrix product may take another path in the library and round otherwise; it was seen below 4."""


def filled_up(segments: Segments, seeds: Array) -> tuple[Segments, Array]:
    """At least ``FEWEST`` segments: the last one, repeated, makes up for what is missing."""
    index = np.minimum(np.arange(max(len(seeds), FEWEST)), len(seeds) - 1)
    return segments.take(index), seeds[index]


class Reenactor:
    """What a re-enactment needs besides segments: the target's model and belief, the frame scale, the rates."""

    def __init__(self, model: WorldModel, belief: BeliefNet, scale: Scale, rates: Rates, settings: LabelSettings):
        self.model, self.belief, self.scale, self.rates, self.settings = model, belief, scale, rates, settings
        self.distance = distance_for(model, belief, scale, rates, settings)
        self.length = rates.target_steps(settings.reference, settings.slack)
        self.radius = window_of(settings.band, self.length)
        self.slope = rates.ratio
        # A path along the expected slope has one cell for each step of the faster side.
        self.cells = settings.reference * max(1.0, rates.ratio)

    def start_from(self, segments: Segments, noise: Array, keep: int) -> tuple[Latent, Array]:
        """The ``keep`` best latents (S, keep, ...) that noise (S, C, F) draws from the belief, and their noise."""
        belief = believe(self.belief, self.model, segments.prefix, self.rates.source_step_seconds)
        here = torch.from_numpy(segments.prefix[:, -1]).to(self.model.device)
        return initial_latents(belief, noise, self.model, partial(self.distance.misfit, here), keep)

    @torch.no_grad()
    def place(self, prefix: Array, generator: torch.Generator) -> Latent:
        """Where the belief net thinks the target's model would stand, (S, ...), at the last of observations
        (S, K, *shape): a sample.
        """
        belief = believe(self.belief, self.model, prefix, self.rates.source_step_seconds)
        return to_latent(belief.sample(generator), self.model)

    def align(self, segments: Segments, seeds: Array, actor: Actor | None = None) -> Alignments:
        """Re-enact segments, ``label.chunk`` at once; each one has its own random stream from ``seeds`` (S,).

        With an ``actor`` its own rollouts join the first population of the search. A segment's result is the same bits
        whatever its company. All is computed where the model is; on a GPU only what is found comes to the host.
        """
        chunks = chunk_indices(len(seeds), self.settings.chunk)
        return Alignments.join([self._align(segments.take(index), seeds[index], actor) for index in chunks])

    def _align(self, segments: Segments, seeds: Array, actor: Actor | None) -> Alignments:
        """One chunk of them."""
        kept = self.settings.initial_latents
        count = len(segments)
        segments, seeds = filled_up(segments, seeds)
        noise = np.stack(
            [np.random.default_rng(s).standard_normal((4 * kept, self.model.feature_dim)) for s in seeds]
        ).astype(np.float32)
        noise[:, 0] = 0
        start, noise = self.start_from(segments, noise, kept)
        # The search is of many rows in any case: the fillers need not take part.
        rows = Latent(start.deter[:count].flatten(0, 1), start.stoch[:count].flatten(0, 1))
        reference = self.distance.reference(segments)[:count].repeat_interleave(kept, 0)
        generators = [torch.Generator().manual_seed(int(s)) for s in seeds[:count].repeat(kept)]
        proposals = self._propose(rows, actor, generators) if actor is not None else None
        plan = self._search(rows, reference, generators, proposals)
        row = np.arange(count) * kept + plan.cost.reshape(-1, kept).argmin(1).cpu().numpy()
        actions = plan.actions.cpu().numpy()[row]
        chosen = noise[np.arange(count), row % kept]
        history = plan.history.cpu().numpy()[:, row] / self.cells
        filler = np.minimum(np.arange(len(segments)), count - 1)
        found = self.replay(segments, chosen[filler], actions[filler])
        return Alignments._make([*(part[:count] for part in found[:-1]), history])

    def _search(
        self, start: Latent, reference: Tensor, generators: list[torch.Generator], proposals: Tensor | None
    ) -> Plan:
        """The cheapest actions from each start (R, ...) onto its reference (R, N, E)."""
        mean = torch.zeros(len(reference), self.length, self.model.action_dim, device=self.model.device)

        def cost(actions: Tensor, rows: Tensor) -> Tensor:
            return self._cost(start.at(rows), reference[rows], actions)

        return search(cost, mean, self.settings.cem, generators, proposals)

    def _cost(self, start: Latent, reference: Tensor, actions: Tensor) -> Tensor:
        """Open-end DTW of imagined observations to references (R, N, E): actions (R, P, M, A) -> (R, P)."""
        rows, population = actions.shape[:2]
        if population < FEWEST:
            fillers = actions[:, -1:].expand(-1, FEWEST - population, -1, -1)
            return self._cost(start, reference, torch.cat([actions, fillers], 1))[:, :population]
        at_once = self.distance.rollouts * (1 if actions.device.type == "cpu" else GPU_LOTS)
        size = max(1, at_once // population)
        lots = [slice(begin, begin + size) for begin in range(0, rows, size)]
        return torch.cat([self._cost_of(start.at(lot), reference[lot], actions[lot]) for lot in lots])

    def _cost_of(self, start: Latent, reference: Tensor, actions: Tensor) -> Tensor:
        """The same, all at once."""
        imagined = self._imagine_observations(start, actions)
        return dtw_tensors(reference, imagined.permute(1, 2, 0, 3), self.radius, open_end=True, slope=self.slope)

    def _imagine_observations(self, start: Latent, actions: Tensor) -> Tensor:
        """What is compared with a reference, time-major: actions (R, P, M, A) -> (M, R, P, E)."""
        rows, population, length, _ = actions.shape
        starts = Latent(*(part.repeat_interleave(population, 0) for part in start))
        features = self.model.imagine(starts, actions.flatten(0, 1).transpose(0, 1))
        seen = torch.stack(list(map(self.distance.imagining(rows * population), features)))
        return seen.view(length, rows, population, -1)

    def _propose(self, start: Latent, actor: Actor, generators: list[torch.Generator]) -> Tensor:
        """What the policy itself would do from each start: (R, Q, M, A)."""
        shape = (max(self.settings.proposals, FEWEST), self.length, self.model.action_dim)
        noise = white_noise(generators, shape).to(self.model.device).permute(2, 0, 1, 3).flatten(1, 2)
        row = torch.arange(len(start.deter), device=self.model.device).repeat_interleave(shape[0])
        latent, actions = start.at(row), []
        for step in noise:
            policy = actor(latent.feature)
            action = (policy.mean + policy.std * step).clamp(-1, 1)
            latent = self.model.imagine_step(latent, action)
            actions.append(action)
        return torch.stack(actions, 1).reshape(-1, *shape)[:, : self.settings.proposals]

    @torch.no_grad()
    def replay(self, segments: Segments, noise: Array, actions: Array) -> Alignments:
        """Imagine known actions (S, M, A) again from the belief sample ``noise`` (S, F) and align anew.

        This is how labels stay fresh: never the latents are stored, only what they can be drawn from again.
        """
        latent, observation = self.latents(segments, noise, actions)
        reference = self.distance.reference(segments).cpu().numpy()
        candidate = self.distance.imagined(latent.feature).transpose(0, 1).contiguous().cpu().numpy()
        size = self.settings.reference + self.length
        paths = np.zeros((len(segments), size, 2), np.int32)
        rate = np.zeros(actions.shape[:2], np.float32)
        coverage, cost = np.zeros_like(rate), np.zeros(len(segments), np.float32)
        for s in range(len(segments)):
            path, total = dtw_path(reference[s], candidate[s], self.radius, open_end=True, slope=self.slope)
            if not math.isfinite(total):
                origin = segments.origin[s].tolist()
                evidence = {"reference": reference[s], "imagined": observation[s], "actions": actions[s]}
                raise Fault(f"re-enactment: what the model imagines for segment {origin} is not finite", evidence)
            paths[s] = np.concatenate([path, np.repeat(path[-1:], size - len(path), axis=0)])
            rate[s], coverage[s] = split_rewards(
                path, segments.rate[s], self.length, self.rates.ratio, self.settings.split
            )
            cost[s] = total / self.cells
        history = np.zeros((0, len(segments)), np.float32)
        return Alignments(noise, actions, observation, paths, rate, coverage, cost, history)

    def null_cost(self, episodes: list[Episode], count: int, rng: np.random.Generator) -> float:
        """What a perfect search would leave: the median cost of re-enacting target episodes with their own actions.

        ``count`` pieces are cut at random and seen at the source's rate, as if they were source segments. What remains
        is the error of belief and world model; a source segment cannot be expected to come closer.
        """
        settings, ratio = self.settings, self.rates.ratio
        first = math.ceil(ratio * (settings.prefix - 1))
        after = max(self.length, math.ceil(ratio * settings.reference))
        fitting = [e for e, episode in enumerate(episodes) if len(episode) > first + after]
        if not fitting:
            raise UserError(
                f"gap: no target episode holds a segment of {first + after + 1} records; choose a milder gap"
            )
        prefix, reference, actions, origin = [], [], [], []
        for e in rng.choice(fitting, count):
            t = int(rng.integers(first, len(episodes[e]) - after))
            observation = episodes[e].observation
            prefix.append(resample(observation, t - ratio * np.arange(settings.prefix - 1, -1, -1)))
            reference.append(resample(observation, t + ratio * np.arange(1, settings.reference + 1)))
            actions.append(episodes[e].action[t + 1 : t + 1 + self.length])
            origin.append((e, t))
        unpaid = np.zeros((count, settings.reference), np.float32)
        segments = Segments(np.stack(prefix), np.stack(reference), unpaid, np.array(origin))
        mean = np.zeros((count, self.model.feature_dim), np.float32)
        return float(np.median(self.replay(segments, mean, np.stack(actions)).cost))

    @torch.no_grad()
    def latents(self, segments: Segments, noise: Array, actions: Array) -> tuple[Latent, Array]:
        """Latents (M, S, ...) under today's model and belief, and their decoded observations (S, M, *shape)."""
        start, _ = self.start_from(segments, noise[:, None], 1)
        known = torch.from_numpy(actions.transpose(1, 0, 2)).to(self.model.device)
        latent = imagine_actions(self.model, start.at((slice(None), 0)), known)
        return latent, self.model.decode(latent.feature).transpose(0, 1).contiguous().cpu().numpy()
