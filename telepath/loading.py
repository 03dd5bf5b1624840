"""A learned agent in somebody else's loop: numpy in, numpy out, and a state that the caller keeps.

    agent = telepath.load("data/target/agent.safetensors")
    action, state = agent.act(observation)              # an episode begins
    action, state = agent.act(observation, state)       # and goes on

It decides as the agents of the evaluation do, bit for bit (``Agent.policy``).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from telepath.dreamer.agent import Agent
from telepath.dreamer.networks import Gaussian
from telepath.dreamer.rssm import Latent
from telepath.episodes import Array
from telepath.errors import UserError
from telepath.runtime.store import load_state


@dataclass(frozen=True)
class State:
    """What an agent remembers of its B episodes: what it believes, its last action (B, A), the steps (B, 1) that each
    has lasted, and where its random numbers are. To be handed back, not to be looked into.
    """

    latent: Latent
    action: Tensor
    age: Tensor
    generator: Tensor


def load(path: str | os.PathLike[str]) -> "LoadedAgent":
    """Read an agent of the pipeline (agent.safetensors in data/source, data/target or data/oracle), whatever its task.

    Any other file is a ``UserError`` of one line that names it.
    """
    path = Path(path)
    return LoadedAgent(Agent.from_artefact(load_state(path, kind="agent"), path))


class LoadedAgent:
    """A learned policy that has no memory of its own: the same observation and state give the same action.

    task: what it was trained for; observation: what it sees (kind and shape); observation_dim: D of the state, if that
    is seen; action_dim: A.
    """

    def __init__(self, agent: Agent):
        self.task = agent.task
        self.model, self.actor = agent.model, agent.behavior.steady
        self.noise, self.pace = agent.settings.exploit_noise, agent.pace
        self.observation = self.model.observation
        self.observation_dim, self.action_dim = self.model.observation_dim, self.model.action_dim

    @torch.no_grad()
    def act(
        self,
        observation: ArrayLike,
        state: State | None = None,
        *,
        first: ArrayLike | None = None,
        deterministic: bool = False,
        seed: int = 0,
    ) -> tuple[Array, State]:
        """The action (A,) float32 in [-1, 1] for one observation, or (B, A) for B of them, and the state that follows.

        An observation is (D,); for an agent from pixels (64, 64, 3) uint8, a frame of the task's camera 0 as
        ``telepath.envs.render`` draws it; with the state below it, as ``telepath.observations.pack`` makes it.

        state: what the last call returned; None where all episodes begin. first: (B,), where single episodes of a
        batch begin anew. seed: of the random numbers from an episode's begin on; ``deterministic`` draws none: the mean
        of the belief, the mean of the policy.

        The observation holds the task's entries end to end, in the units and at the rate that the agent was trained on.
        What does not fit is a ``UserError``.
        """
        given = self._observation(observation)
        batch = given.reshape(-1, *self.observation.shape)
        if state is None:
            state = self._initial(len(batch), seed)
        if len(state.action) != len(batch):
            there = f"a state of {len(state.action)} episodes and observations of {len(batch)}"
            raise UserError(f"state: {there}; leave the state out where the episodes begin")
        if first is not None:
            state = self._renewed(state, first)
        generator = None
        if not deterministic:
            generator = torch.Generator()
            generator.set_state(state.generator)
        embedding = self.model.embed(torch.from_numpy(batch))
        latent, _ = self.model.observe_step(state.latent, state.action, embedding, generator)
        mean, std = self.actor(latent.feature)
        drawn = mean if generator is None else Gaussian(mean, self.noise * std).sample(generator)
        # An agent of a slower rate sees and decides at its own pace; between, all stays as it is.
        due = state.age % self.pace == 0
        latent = Latent(
            torch.where(due, latent.deter, state.latent.deter), torch.where(due, latent.stoch, state.latent.stoch)
        )
        action = torch.where(due, drawn.clamp(-1, 1), state.action)
        drawn_from = state.generator if generator is None or not due.any() else generator.get_state()
        after = State(latent, action, state.age + 1, drawn_from)
        # A copy: the caller may scale it in place, and the state must not notice.
        return action.numpy().reshape(
            *given.shape[: given.ndim - len(self.observation.shape)], self.action_dim
        ).copy(), after

    def _observation(self, observation: ArrayLike) -> Array:
        shape, dtype = self.observation.shape, self.observation.dtype
        sizes = ", ".join(map(str, shape))
        wanted = f"({sizes}{',' if len(shape) == 1 else ''}) or (B, {sizes}) for {self.task}"
        try:
            given = np.array(observation)
            # Numbers of any type for a state; bytes for a frame: floats in [0, 1] would come out black.
            given = given if self.observation.has_frames else given.astype(np.float32)
        except (TypeError, ValueError):
            what = type(observation).__name__
            raise UserError(f"observation: a {what} that is no array of numbers; expected {wanted}") from None
        if given.ndim - len(shape) not in (0, 1) or given.shape[-len(shape) :] != shape:
            raise UserError(f"observation: shape {given.shape}; expected {wanted}")
        if given.dtype != dtype:
            raise UserError(f"observation: {given.dtype}; expected uint8, {wanted}")
        if not np.isfinite(given).all():
            place = np.argwhere(~np.isfinite(given))[0].tolist()
            raise UserError(f"observation{place} is {given[tuple(place)]}; expected finite numbers")
        return given

    def _initial(self, batch: int, seed: int) -> State:
        generator = torch.Generator().manual_seed(seed)
        action, age = torch.zeros(batch, self.action_dim), torch.zeros(batch, 1, dtype=torch.int64)
        return State(self.model.initial(batch), action, age, generator.get_state())

    def _renewed(self, state: State, first: Any) -> State:
        begins = np.asarray(first)
        if begins.dtype != np.bool_ or begins.shape != (len(state.action),):
            raise UserError(f"first: {begins.dtype} of shape {begins.shape}; expected ({len(state.action)},) booleans")
        goes_on = torch.from_numpy(~begins).unsqueeze(1)
        latent = Latent(state.latent.deter * goes_on, state.latent.stoch * goes_on)
        return State(latent, state.action * goes_on, state.age * goes_on, state.generator)
