"""What the stages need of memory at most, told from the settings before any of them runs.

Upper bounds, from the arrays that grow with the settings: rough, on the safe side, and right in how they grow.
"""

import math
from itertools import pairwise

import numpy as np

from telepath.alignment.rates import Rates
from telepath.config import Params
from telepath.observations import PIXELS, SIDE, Observation

FLOAT = 4
"""Bytes."""

LIBRARIES = 720 * 2**20
"""torch, numba and MuJoCo with nothing to do, and what Numba takes to compile the alignment for the first time."""

ENVIRONMENT = 16 * 2**20
"""A simulation with its model compiled and recompiled; 6 to 14 MiB were measured."""

COPIES = 4
"""Of the replay: itself, all observations end to end, the checkpoint, and the bytes that are written of it."""

VERDICTS = 5
"""Who is judged in every episode: the source at home, its agent in the target, random and held actions, Telepath."""

TRACES = 24
"""Arrays as wide as a hidden layer that a step of filtering or imagining leaves for its gradient, for each layer."""

MAPS = 5
"""Arrays as large as all maps that the convolutions make of a frame, and as large as those that it is made of again."""

KERNEL = 16
"""Weights of a convolution from a channel to a channel."""

TRAINED = 4
"""A weight, its gradient, and two moments."""

ROLLOUTS = 512
"""See ``alignment.distance``: so many are imagined at a time, or one segment's whole population."""

SEARCHED = 8
"""Arrays as large as a population of action sequences that a search holds."""

NETWORKS = 3
"""PADA's: of the deviation, the source's dynamics where they are learned, and the clone."""


Shares = dict[str, float]
"""Bytes, by the setting that they grow with."""


def memory_needs(
    params: Params, observation: Observation | int, action_dim: int, rates: Rates, records: int
) -> dict[str, Shares]:
    """What each part of the work takes at most besides ``LIBRARIES``, for ``runtime.memory.demand_memory``.

    records: of the longest episode.
    """
    observation = Observation.of(observation)
    # Of a frame networks and pools handle no more than an embedding; its own floats are counted by themselves.
    observation_dim = params.dreamer.hidden if observation.has_frames else observation.state_dim
    base = networks(params, observation_dim, action_dim)
    if observation.has_frames:
        base |= convolving(params)
    name = f"tasks.{params.task}"
    task = params.tasks[params.task]
    record = COPIES * (math.prod(observation.shape) * np.dtype(observation.dtype).itemsize + FLOAT * (action_dim + 1))
    at_home, explored, refined = (
        {f"{name}.{key}": record * steps}
        for key, steps in (
            ("source_steps", task.source_steps),
            ("explore_steps", task.explore_steps),
            ("refine_steps", task.refine_steps),
        )
    )
    oracle = {"oracle.step_multiple": params.oracle.step_multiple * record * (task.explore_steps + task.refine_steps)}
    return {
        "source": base | at_home | learning(params, rates),
        "target": base | explored | refined | learning(params, rates) | believing(params, observation_dim),
        "oracle": base | oracle | learning(params, rates),
        "labelling": base | at_home | explored | labelling(params, observation_dim, action_dim, rates),
        "evaluation": base | at_home | explored | judging(params, record / COPIES * records),
        "PADA": base | at_home | explored | refined | adapting(params, observation_dim, action_dim),
    }


def judging(params: Params, episode: float) -> Shares:
    """Everybody is judged in all episodes side by side, at home and away, and each leaves ``episode`` bytes."""
    judged = VERDICTS + COPIES
    return {
        "evaluate.episodes": params.evaluate.episodes * (2 * ENVIRONMENT + judged * episode),
        "target.rounds x evaluate.curve_episodes": params.target.rounds * params.evaluate.curve_episodes * episode,
    }


def networks(params: Params, observation_dim: int, action_dim: int) -> Shares:
    """All networks that a stage may hold at a time, trained."""
    size, belief = params.dreamer, params.belief
    feature = size.deter + size.stoch
    ends = 2 * (observation_dim + action_dim + 1 + size.stoch)
    head = size.hidden * (feature + ends + size.layers * size.hidden)
    # Encoder, posterior, prior, decoder, continuation, reward, actor, steady actor, critic, slow critic.
    cell, heads = 3 * size.deter * (size.hidden + size.deter), 10 * head
    members = params.explore.members
    return {
        "dreamer.deter": TRAINED * FLOAT * cell,
        "dreamer.hidden": TRAINED * FLOAT * (heads + members * head),
        "belief.hidden": TRAINED * FLOAT * belief.hidden * (feature + ends + 4 * belief.hidden),
        # The agent of every round is kept, without gradient and moments, the running average, and its best so far.
        "target.rounds x dreamer.deter": FLOAT * (params.target.rounds + 2) * cell,
        "target.rounds x dreamer.hidden": FLOAT * (params.target.rounds + 2) * heads,
    }


def convolving(params: Params) -> Shares:
    """Encoder and decoder of frames, trained, and what they leave of an update's; a search decodes fewer at a time."""
    size = params.dreamer
    # Each convolution halves the side and doubles the channels: see ``dreamer.encoders``, which needs torch.
    channels = [3, *(size.cnn_depth * 2**k for k in range(4))]
    maps = [(SIDE >> k) ** 2 * width for k, width in enumerate(channels)]
    kernels = 2 * KERNEL * sum(before * after for before, after in pairwise(channels))
    weights = kernels + maps[-1] * (size.hidden + size.deter + size.stoch)
    return {
        "dreamer.cnn_depth": (TRAINED + COPIES) * FLOAT * weights,
        "target.rounds x dreamer.cnn_depth": FLOAT * (params.target.rounds + 2) * weights,
        "frames of dreamer.batch x length": FLOAT * TRACES * PIXELS * size.batch * size.length,
        "dreamer.cnn_depth x batch x length": FLOAT * MAPS * sum(maps[1:]) * size.batch * size.length,
    }


def learning(params: Params, rates: Rates) -> Shares:
    """The traces of one update."""
    size = params.dreamer
    row = FLOAT * TRACES * (size.layers * size.hidden + size.deter + size.stoch)
    # The imagination of a faster target is as long in seconds, not in steps; there is one trajectory in any case.
    ahead = math.ceil(params.tasks[params.task].horizon * rates.ratio)
    return {
        "dreamer.batch x length": row * size.batch * size.length,
        "dreamer.imagined": row * size.imagined,
        "tasks.horizon": row * ahead,
        "target.imagined_batch": row * params.target.imagined_batch,
        "target.frames": row * params.target.frames,
        # A stretch of the imagined episodes of a trial: no traces, but some dozens of steps at a time.
        "target.trial_episodes": 2 * row * params.target.trial_episodes,
    }


def believing(params: Params, observation_dim: int) -> Shares:
    """One update of the prior-belief network, and the sequences that it learns from."""
    belief, size = params.belief, params.dreamer
    sequence = belief.length * (size.layers * size.hidden + size.deter + size.stoch)
    return {
        "belief.subsets x frames": FLOAT * TRACES * belief.subsets * belief.frames * (belief.hidden + observation_dim),
        "belief.batch x length": FLOAT * TRACES * belief.batch * sequence,
    }


def adapting(params: Params, observation_dim: int, action_dim: int) -> Shares:
    """PADA's networks and their copies, an update, and the search for an action in all episodes that it is judged in.

    Its pairs are as many as the steps, which are counted by themselves.
    """
    pada = params.rivals.pada
    ends = 2 * (observation_dim + action_dim)
    row = 2 * pada.hidden + ends
    return {
        "rivals.pada.hidden": (TRAINED + COPIES) * FLOAT * NETWORKS * pada.hidden * (pada.hidden + ends),
        "rivals.pada.batch": FLOAT * TRACES * pada.batch * row,
        "rivals.pada.cem.population x evaluate.episodes": FLOAT
        * COPIES
        * pada.cem.population
        * params.evaluate.episodes
        * row,
    }


def labelling(params: Params, observation_dim: int, action_dim: int, rates: Rates) -> Shares:
    """The search for one chunk of segments, what is kept of all, and the pool of source windows."""
    label, size, match = params.label, params.dreamer, params.label.match
    length = rates.target_steps(label.reference, label.slack)
    feature = size.deter + size.stoch
    rows = label.chunk * label.initial_latents
    believed = 16 * rows * (feature + size.hidden)
    imagined = 4 * length * observation_dim + 8 * (feature + size.hidden)
    segment = 4 * (feature + (length + label.reference) * (observation_dim + action_dim + 6) + label.cem.iterations)
    window = max(3, rates.source_steps(match.window, match.slack))
    windows = params.tasks[params.task].source_steps / match.pool_stride
    return {
        "label.chunk x initial_latents x cem.population": FLOAT
        * (SEARCHED * rows * (label.cem.population + label.proposals) * length * action_dim + believed),
        "label.cem.population": FLOAT * max(ROLLOUTS, label.cem.population) * imagined,
        "label.segments": FLOAT * label.segments * segment,
        "label.null_segments": FLOAT * label.null_segments * segment,
        f"tasks.{params.task}.source_steps / label.match.pool_stride": FLOAT
        * 2
        * windows
        * window
        * (observation_dim + 1),
        "label.match.null_windows": FLOAT
        * match.null_windows
        * (match.window * observation_dim + 4 * match.candidates),
    }
