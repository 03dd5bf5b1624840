"""An agent: a world model and a behavior that acts through it; how it acts, is saved and is loaded."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from telepath.dreamer.behavior import Actor, Behavior
from telepath.dreamer.networks import Gaussian
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.envs.rollout import ActionHold, Policy
from telepath.episodes import Array
from telepath.errors import UserError
from telepath.files import one_line
from telepath.observations import Observation
from telepath.runtime.device import CPU
from telepath.runtime.store import load_state, save_state
from telepath.settings import DreamerSettings, ObservationKind


class Agent(nn.Module):
    """A world model and a behavior for a task with an ``observation`` (a number: a state of so many) and actions."""

    def __init__(
        self, task: str, observation: Observation | int, action_dim: int, settings: DreamerSettings, pace: int = 1
    ):
        """``pace``: steps for which each action is held, where the agent knows a slower control rate."""
        super().__init__()
        self.task, self.settings, self.pace = task, settings, pace
        self.model = WorldModel(observation, action_dim, settings)
        self.behavior = Behavior(self.model.feature_dim, action_dim, settings)

    def policy(self, *, noise: float | None = None, seed: int = 0) -> Policy:
        """The steady actor, as it is judged: with ``exploit_noise`` of its noise, or with the share given."""
        noise = self.settings.exploit_noise if noise is None else noise
        policy = AgentPolicy(self.model, self.behavior.steady, noise=noise, seed=seed)
        return policy if self.pace == 1 else ActionHold(policy, self.pace)

    def explorer(self, *, seed: int) -> "AgentPolicy":
        """The actor as it is at this update, with all of its noise: what collects while it learns."""
        return AgentPolicy(self.model, self.behavior.actor, seed=seed)

    def save(self, path: Path, **extra: Any) -> None:
        """Write the agent; ``extra`` is any tree that ``store`` can hold."""
        save_state(path, self.artefact() | extra, kind="agent")

    def artefact(self) -> dict[str, Any]:
        """The agent as a tree that ``store`` can hold."""
        return {
            "task": self.task,
            "observation": self.model.observation.kind,
            "observation_dim": self.model.observation_dim,
            "action_dim": self.model.action_dim,
            "settings": self.settings.model_dump(),
            "pace": self.pace,
            "weights": dict(self.state_dict()),
        }

    @classmethod
    def load(
        cls,
        path: Path,
        task: str,
        observation: ObservationKind = "state",
        dims: tuple[Observation | int, int] | None = None,
    ) -> "Agent":
        """Read an agent; one of another task, or that observes something else, is a ``UserError``.

        dims: what is observed (D, if it is the state) and A, where they are known.
        """
        agent = cls.from_artefact(load_state(path, kind="agent"), path)
        if agent.task != task:
            raise UserError(f"{path}: holds an agent for {agent.task}, not {task}; run `dvc repro` to remake it")
        if (found := agent.model.observation.kind) != observation:
            raise UserError(f"{path}: holds an agent that observes {found}, not {observation}; run `dvc repro`")
        if dims is not None:
            agent.demand(path, dims)
        return agent

    def demand(self, path: Path, dims: tuple[Observation | int, int]) -> None:
        """Raise ``UserError`` where it observes or does other things than ``dims``; ``path`` is where it was read."""
        found = *self.model.observation, self.model.action_dim
        wanted = *Observation.of(dims[0]), dims[1]
        if found != wanted:
            raise UserError(f"{path}: holds an agent for other dimensions ({found}, not {wanted}); run `dvc repro`")

    @classmethod
    def from_artefact(cls, stored: dict[str, Any], path: Path) -> "Agent":
        """The agent that ``artefact()`` describes; where it describes none, a ``UserError`` that names the file."""
        try:
            settings = DreamerSettings(**stored["settings"])
            observation = Observation.stored(stored["observation"], int(stored["observation_dim"]))
            task, dims = str(stored["task"]), (observation, int(stored["action_dim"]))
            if (pace := int(stored["pace"])) < 1:
                raise ValueError(f"its pace is {pace} steps")
            with torch.device("meta"):  # shapes alone: nothing is made room for before they fit
                wanted = {name: tensor.shape for name, tensor in cls(task, *dims, settings).state_dict().items()}
            if wanted != {name: tensor.shape for name, tensor in stored["weights"].items()}:
                raise ValueError("its weights do not fit its settings")
            agent = cls(task, *dims, settings, pace)
            agent.load_state_dict(stored["weights"])
        except Exception as error:
            reason = f"holds an agent that cannot be built ({one_line(error)})"
            raise UserError(f"{path}: {reason}; run `dvc repro` to remake it") from None
        return agent


class AgentPolicy:
    """Filters observations through the world model and acts on the state; one row a batched environment."""

    def __init__(self, model: WorldModel, actor: Actor, *, noise: float = 1.0, seed: int = 0):
        """``noise``: the share of the actor's standard deviation with which actions are drawn.

        It acts as model and actor are now: of those on a GPU that see states alone it keeps a copy on the CPU, since a
        single state takes longer to go there and back than to be looked at here.
        """
        if model.device.type == "cuda" and not model.observation.has_frames:
            model, actor = copy.deepcopy(model).to(CPU), copy.deepcopy(actor).to(CPU)
        self.model, self.actor, self.noise = model, actor, noise
        self.generator = torch.Generator().manual_seed(seed)

    def reset(self, batch: int) -> None:
        """Forget everything: ``batch`` episodes begin."""
        self.latent = self.model.initial(batch)
        self.action = torch.zeros(batch, self.model.action_dim, device=self.model.device)

    @torch.no_grad()
    def act(self, observation: Array) -> Array:
        """Observations (B, *shape) -> actions (B, A) in [-1, 1]."""
        embedding = self.model.embed(torch.from_numpy(observation).to(self.model.device))
        self.latent, _ = self.model.observe_step(self.latent, self.action, embedding, self.generator)
        mean, std = self.actor(self.latent.feature)
        self.action = Gaussian(mean, self.noise * std).sample(self.generator).clamp(-1, 1)
        return self.action.cpu().numpy().astype(np.float32)

    def state(self) -> dict[str, Any]:
        """The model's state of every row, the last actions, and where the noise is."""
        return {"latent": tuple(self.latent), "action": self.action, "generator": self.generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        device = self.model.device
        self.latent, self.action = Latent(*state["latent"]).to(device), state["action"].to(device)
        self.generator.set_state(state["generator"])
