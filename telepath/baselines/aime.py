"""AIME: action inference by maximising evidence (Zhang, Becker-Ehmck, van der Smagt and Karl, NeurIPS 2023).

A world model of the target is learnt from what the target does. Then a demonstration, which is a sequence of
observations without actions, is explained in it: which actions would have made the model expect what was seen? The
policy pi(a | z) acts on the filtered states z of the model, and is improved by the gradient of the evidence lower bound
of the source's observations o_1..o_T through model and actions,

    max_pi  E [ sum_t log p(o_t | z_t) - KL( q(z_t | z_{t-1}, a_{t-1}, o_t) || p(z_t | z_{t-1}, a_{t-1}) ) ],
            z_t ~ q,  a_t ~ pi(a | z_t),

with the model as it is. So inferring the actions and cloning them are one: the policy is amortised inference, and what
it has become acts in the target, filtering there.

Of the source it sees observations, and returns, by which the best episodes are chosen; they are taken at the target's
rate, straight lines in between. Our world model is the Dreamer's of every other agent here.

Different from the paper: there the model's data come first, from another policy, and nothing is collected for the
demonstrations. Here target episodes, the first ones with random actions, are followed by those of the policy, and model
and policy learn after each of them, as BCO does: a model that never saw the demonstrated region explains nothing there.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from telepath.baselines.rival import Allowed, Figures, episode_budget, resample
from telepath.dreamer.agent import Agent
from telepath.dreamer.learner import ModelLearner, descend
from telepath.dreamer.networks import kl
from telepath.dreamer.replay import Lesson, Replay
from telepath.dreamer.rssm import Latent, WorldModel
from telepath.envs.rollout import Policy, RandomPolicy, rollout
from telepath.episodes import Array, Episode
from telepath.rival_settings import AimeSettings
from telepath.settings import DreamerSettings


def evidence(
    model: WorldModel,
    act: Callable[[Tensor], Tensor],
    observation: Tensor,
    reconstruction_scale: float,
    generator: torch.Generator,
) -> Tensor:
    """The evidence lower bound of observations (T, B, D), in nats a step, up to a constant; a scalar.

    ``act`` maps the filtered features (B, F) to the actions (B, A) that are taken there. ``reconstruction_scale``:
    inverse variance of the decoder. The first observation has no action before it and is left out.
    """
    embedding, seen = model.embed(observation), model.squash(observation)
    latent, bound = model.initial(observation.shape[1]), []
    action = observation.new_zeros(observation.shape[1], model.action_dim)
    for t in range(len(observation)):
        deter = model.recur(latent, action)
        prior, posterior = model.prior(deter), model.posterior(deter, embedding[t])
        latent = Latent(deter, posterior.sample(generator))
        missed = (seen[t] - model.decoder(latent.feature)).square().sum(-1)
        bound.append(-0.5 * reconstruction_scale * missed - kl(posterior, prior))
        action = act(latent.feature)
    return torch.stack(bound[1:]).mean()


class Aime:
    """Explains the source's best episodes in a model of the target, and acts as the explanation says."""

    def __init__(self, allowed: Allowed, settings: AimeSettings):
        torch.manual_seed(allowed.seed)
        self.target, self.settings, self.seed = allowed.target, settings, allowed.seed
        self.dreamer: DreamerSettings = allowed.agent.settings
        dims = self.target.observation_dim, self.target.action_dim
        self.agent = Agent(allowed.agent.task, *dims, self.dreamer)
        self.generator = torch.Generator().manual_seed(allowed.seed)
        self.rng = np.random.default_rng(allowed.seed)
        best = sorted(allowed.episodes, key=lambda episode: -episode.ret)[: settings.demonstrations]
        # The source's last step may be shorter than the others: it is not shown.
        tracks = [resample(episode.observation[:-1], allowed.rates) for episode in best]
        self.shown = Replay([unacted(track, dims[1]) for track in tracks])
        self.replay = Replay()
        self.learner = ModelLearner(self.agent.model, self.dreamer, self.generator)
        self.frozen = copy.deepcopy(self.agent.model).requires_grad_(False)
        self.parameters = dict(self.agent.behavior.actor.named_parameters())
        self.optimizer = torch.optim.Adam(self.parameters.values(), settings.lr, eps=1e-6, fused=True)
        self.random_episodes = max(1, round(settings.random * episode_budget(self.target, allowed.steps)))

    def episode(self, number: int) -> tuple[int, Figures]:
        """Act through an episode, then improve the model, and the policy in it.

        Figures: the model's reconstruction error and the evidence of the demonstrations, in nats a step.
        """
        self.target.reseed(self.seed, number)
        (episode,) = rollout([self.target], self.policy(number))
        self.replay.add(episode)
        self.agent.model.fit_units(self.replay.observations())
        updates = max(1, round(self.settings.update_ratio * episode.steps))
        model = [self.learn() for _ in range(updates)]
        self.frozen.load_state_dict(self.agent.model.state_dict())
        explained = [self.explain() for _ in range(updates)]
        return episode.steps, {"model": float(np.mean(model)), "evidence": float(np.mean(explained))}

    def policy(self, number: int) -> Policy:
        """What acts in episode ``number``. Random actions are held for 1, 2 and 4 steps in turn, as in exploration."""
        if number < self.random_episodes:
            return RandomPolicy(self.target.action_dim, self.rng, 2 ** (number % 3))
        return self.agent.explorer(seed=int(self.rng.integers(2**31)))

    def learn(self) -> float:
        """One step of the world model on what the target did; the reconstruction error."""
        lesson = Lesson(self.replay.sample(self.dreamer.batch, self.dreamer.length, self.rng))
        _, figures = self.learner.update(lesson)
        return float(figures["model"])

    def explain(self) -> float:
        """One step of the policy towards actions that explain the demonstrations; their evidence."""
        observation = self.shown.sample(self.dreamer.batch, self.dreamer.length, self.rng).observation
        actor = self.agent.behavior.actor
        bound = evidence(
            self.frozen,
            lambda feature: actor.sample(actor(feature), self.generator),
            observation,
            self.dreamer.reconstruction_scale,
            self.generator,
        )
        clip, inputs = self.dreamer.grad_clip, {"observation": observation}
        descend(self.optimizer, self.parameters, -bound, clip, "action inference", inputs)
        self.agent.behavior.follow()
        return float(bound.detach())

    def artefact(self) -> dict[str, Any]:
        """Model and policy, as an agent."""
        return {"agent": self.agent.artefact()}

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs, between two episodes."""
        return {
            "agent": dict(self.agent.state_dict()),
            "learner": self.learner.state(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "replay": self.replay.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.agent.load_state_dict(state["agent"])
        self.learner.restore(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.rng.bit_generator.state = state["rng"]
        self.replay.restore(state["replay"])


def unacted(track: Array, action_dim: int) -> Episode:
    """Observations (T, D) as an episode of which nobody knows the actions."""
    return Episode(track, np.zeros((len(track), action_dim), np.float32), None)
