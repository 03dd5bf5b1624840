"""DARC: domain adaptation with rewards from classifiers (Eysenbach, Chaudhari, Asawa, Levine and Salakhutdinov, ICLR
2021).

The agent is trained in the *source*, on its reward and a correction for what could not happen in the target,

    r + Delta,   Delta(s, a, s') = log p_target(s' | s, a) - log p_source(s' | s, a)
                                 = log q(target | s, a, s') - log q(source | s, a, s')
                                   - log q(target | s, a) + log q(source | s, a)

with q from two classifiers that tell the domains apart, one with and one without the next state: Delta is the
difference of their logits. So a policy that is paid for it avoids what only the source allows. Transitions of the
target serve the classifiers alone, and no reward of it is read. It finds those of the source's ways that work in the
target too; where there are none, such as with every body heavier, Delta is a large penalty everywhere.

On our Dreamer: world model, reward head and critic learn from replayed source episodes, whose rewards are corrected
with the classifiers as they are when a batch is drawn. The source runs at the target's control rate, from nothing, for
as long, in seconds and in updates, as the source agent was trained. Target episodes, the first ones with random
actions, are spread evenly over that time.

Different from the paper and its code, and why:

- A nat is worth ``nat`` in units of reward a frame and Delta is cut at ``limit`` nats: there the reward is in units of
  the entropy's price, which in our Dreamer is so small that the correction would vanish.
- s is the observation; s' comes as s' - s, which at our control rates says more than where it led.
- The classifiers' inputs carry noise, as there, or in a deterministic simulator they would be certain of everything; by
  default 0.1 of an input's spread, where theirs has a deviation of 1: a choice, other values were not compared.
- Their logits are independent, where the published code adds an advantage to the logit of q(target | s, a), and their
  networks have two layers of ``hidden``, where theirs have one of 32: Delta is the same difference either way.
- The target is visited evenly over its budget and not once in ten steps: budgets are equal for all rivals.
- The correction counts from the first update on, where the published runs wait for 100,000 steps, several times our
  whole budget: whether a shorter wait would help was not tried.
- Inputs keep the units of what there was at the first update, random episodes: whether units that follow the replay, as
  our Dreamer's do, would serve a walker that has learnt to stand better was not tried.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from telepath.baselines.regression import GRAD_CLIP, Regressor
from telepath.baselines.rival import episode_budget
from telepath.dreamer.learner import Figures, descend, optimizer_of, resume
from telepath.dreamer.networks import noise_like
from telepath.dreamer.replay import Batch, Replay
from telepath.dreamer.training import OnlineTraining
from telepath.envs.rollout import Policy, RandomPolicy, rollout
from telepath.envs.suite import Environment
from telepath.episodes import Episode
from telepath.rival_settings import DarcSettings
from telepath.settings import DreamerSettings, OnlineSettings


class DomainClassifiers(nn.Module):
    """The logits of q(target | s, a, s') and q(target | s, a)."""

    def __init__(self, observation_dim: int, action_dim: int, hidden: int):
        super().__init__()
        self.before = observation_dim + action_dim
        self.whole = Regressor(self.before + observation_dim, 1, hidden)
        self.partial = Regressor(self.before, 1, hidden)

    def fit_units(self, transitions: Tensor) -> None:
        """Choose the units of the inputs, from transitions (n, 2D + A) of both domains."""
        for net, inputs in self.parts(transitions):
            net.fit_units(inputs, torch.ones(len(inputs), 1))

    def parts(self, transitions: Tensor) -> list[tuple[Regressor, Tensor]]:
        """Each network with what it sees."""
        return [(self.whole, transitions), (self.partial, transitions[..., : self.before])]

    def correction(self, transitions: Tensor) -> Tensor:
        """Delta (...), in nats, of transitions (..., 2D + A)."""
        whole, partial = (net(inputs).squeeze(-1) for net, inputs in self.parts(transitions))
        return whole - partial

    def loss(self, transitions: Tensor, away: Tensor, noise: float, generator: torch.Generator) -> Tensor:
        """Cross-entropy of both on transitions (n, 2D + A); ``away`` (n,) is 1 for those of the target.

        ``noise``: standard deviation on the inputs, in units of their spread.
        """
        shaken = transitions + noise * self.whole.spread * noise_like(transitions, generator)
        logits = [net(inputs).squeeze(-1) for net, inputs in self.parts(shaken)]
        return torch.stack([F.binary_cross_entropy_with_logits(logit, away) for logit in logits]).sum()


def transitions_of(before: Tensor, action: Tensor, after: Tensor) -> Tensor:
    """(s, a, s' - s), (..., 2D + A): the change says more than where it led."""
    return torch.cat([before, action, after - before], -1)


def table(episodes: list[Episode]) -> Tensor:
    """All transitions of some episodes, (n, 2D + A)."""
    lots = []
    for episode in episodes:
        observation, action = torch.from_numpy(episode.observation), torch.from_numpy(episode.action)
        lots.append(transitions_of(observation[:-1], action[1:], observation[1:]))
    return torch.cat(lots)


class Darc(OnlineTraining):
    """A Dreamer in the source that is paid for staying where the target would go along."""

    def __init__(
        self,
        task: str,
        source: Environment,
        target: Environment,
        episodes: list[Episode],
        dreamer: DreamerSettings,
        online: OnlineSettings,
        settings: DarcSettings,
        *,
        steps: int,
        target_steps: int,
        seed: int,
        horizon: int,
        rate_ratio: float,
    ):
        """``episodes``: the source's seed episodes; ``steps``: its budget, ``target_steps`` the target's."""
        super().__init__(
            task, source, episodes, dreamer, online, steps=steps, seed=seed, horizon=horizon, rate_ratio=rate_ratio
        )
        self.target, self.darc = target, settings
        self.visits = episode_budget(target, target_steps)
        self.random_visits = max(1, round(settings.random * self.visits))
        self.away = Replay()
        classifiers = DomainClassifiers(source.observation_dim, source.action_dim, settings.hidden)
        self.classifiers = classifiers.to(self.agent.model.device)
        self.classifier_parameters = dict(self.classifiers.named_parameters())
        self.classifier_optimizer = optimizer_of(self.classifier_parameters, settings.lr)
        self.look_back()

    # -- the target ----------------------------------------------------------------------------------------------------

    def visits_due(self) -> int:
        """Target episodes that belong to the source's steps so far: the random ones, then evenly to the end."""
        collected, whole = self.replay.steps - self.seed_steps, self.collect_budget - self.seed_steps
        rest = self.visits - self.random_visits
        return self.random_visits + min(rest, int(rest * collected / max(1, whole)))

    def visit(self) -> None:
        """One episode in the target, of random actions or of the exploring policy."""
        number = len(self.away)
        self.target.reseed(self.seed, number)
        seed = int(self.rng.integers(2**31))
        policy: Policy = self.agent.explorer(seed=seed)
        if number < self.random_visits:
            policy = RandomPolicy(self.target.action_dim, np.random.default_rng(seed), 2 ** (number % 3))
        (episode,) = rollout([self.target], policy)
        self.away.add(episode)

    def advance(self) -> Figures:
        """One update, after the episodes that are due in source and target."""
        while len(self.away) < self.visits_due():
            self.visit()
        return super().advance()

    @property
    def target_steps(self) -> int:
        """Steps taken in the target."""
        return self.away.steps

    @property
    def divergences(self) -> int:
        """How often a simulator diverged so far, in source or target."""
        return super().divergences + self.away.divergences

    # -- the correction ------------------------------------------------------------------------------------------------

    def look_back(self) -> None:
        """Gather the transitions of both domains, if there are new ones."""
        self.seen = len(self.replay), len(self.away)
        self.home_table = self.table_of(self.replay.episodes)
        self.away_table = self.table_of(self.away.episodes) if len(self.away) else self.home_table[:0]

    def table_of(self, episodes: list[Episode]) -> Tensor:
        """All their transitions, where the agent is."""
        return table(episodes).to(self.agent.model.device)

    def learn_domains(self) -> Tensor:
        """One step of both classifiers on as many transitions of either domain; the loss."""
        if self.seen != (len(self.replay), len(self.away)):
            self.look_back()
        if self.updates == 0:
            self.classifiers.fit_units(torch.cat([self.home_table, self.away_table]))
        half = self.darc.batch // 2
        device = self.generator.device
        chosen = [torch.randint(len(lot), (half,), generator=self.generator, device=device) for lot in self.tables()]
        transitions = torch.cat([lot[index] for lot, index in zip(self.tables(), chosen, strict=True)])
        away = torch.arange(2 * half, device=device).ge(half).float()
        loss = self.classifiers.loss(transitions, away, self.darc.input_noise, self.generator)
        inputs = {"transitions": transitions}
        descend(self.classifier_optimizer, self.classifier_parameters, loss, GRAD_CLIP, "classifiers", inputs)
        return loss.detach()

    def tables(self) -> tuple[Tensor, Tensor]:
        """The transitions of source and target."""
        return self.home_table, self.away_table

    @torch.no_grad()
    def corrections(self, transitions: Tensor) -> Tensor:
        """What Delta is worth (...), in units of reward a frame, for transitions (..., 2D + A)."""
        return self.darc.nat * self.classifiers.correction(transitions).clamp(-self.darc.limit, self.darc.limit)

    def rate(self, batch: Batch) -> Tensor:
        """The reward less what the target would not do."""
        # What came before a window's first record is in the replay, unless it is the first of its episode.
        first = [
            self.replay.episodes[e].observation[max(0, s - 1)] for e, s in zip(batch.episode, batch.start, strict=True)
        ]
        before = torch.cat([torch.from_numpy(np.stack(first))[None].to(self.replay.device), batch.observation[:-1]])
        worth = self.corrections(transitions_of(before, batch.action, batch.observation))
        return super().rate(batch) + (1 - batch.is_first) * worth

    def update(self) -> Figures:
        """One step of the classifiers, then one of everything else on rewards that they correct."""
        domains = self.learn_domains()
        return super().update() | {"domains": domains}

    def choose(self) -> None:
        """Leave the agent as it was at the finalist with the highest mean *corrected* return on fresh episodes."""
        scores = []
        for finalist in self.finalists:
            self.agent.load_state_dict(finalist)
            policies = [self.agent.policy(seed=number) for number in range(self.settings.final_episodes)]
            scores.append(np.mean([self.corrected_return(self.roll_out(policy)) for policy in policies]))
        self.agent.load_state_dict(self.finalists[int(np.argmax(scores))])

    def corrected_return(self, episode: Episode) -> float:
        """The return of a source episode with the corrections."""
        return episode.ret + self.environment.action_repeat * float(self.corrections(self.table_of([episode])).sum())

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return super().state() | {
            "away": self.away.state(),
            "classifiers": dict(self.classifiers.state_dict()),
            "classifier_optimizer": self.classifier_optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        super().restore(state)
        self.away.restore(state["away"])
        self.classifiers.load_state_dict(state["classifiers"])
        resume(self.classifier_optimizer, state["classifier_optimizer"])
