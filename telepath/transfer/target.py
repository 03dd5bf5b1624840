"""The target policy: trained in the target model's imagination on inferred reward, refined round by round.

A round: update world model, belief, reward ensemble and behavior; roll the policy out in the target; label what
happened by matching it with the source; search some re-enactments anew. The inferred return of a round's rollouts is
its score. At the end the best rounds are rolled out again, and the one whose inferred return is highest is shipped.
*With source agent* the first rounds are the source agent as it came, asked at every step and, in a faster target, at
its own pace: a transfer that harms is found out and not shipped. In the next the actor does what the better of them
does, with the target's latents, and from there on it stays near the best policy so far: a round is a step from what
works.
No true reward is read: the environment raises if it is touched.
"""

import copy
import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from telepath.alignment.belief import BeliefLearner
from telepath.alignment.labeller import Labeller
from telepath.alignment.reenact import Alignments, Reenactor
from telepath.dreamer.agent import Agent
from telepath.dreamer.learner import BehaviorLearner, Learner, ModelLearner
from telepath.dreamer.replay import Recency, Replay, gather
from telepath.dreamer.rssm import Latent
from telepath.envs.rollout import rollout
from telepath.envs.suite import Environment
from telepath.episodes import Episode
from telepath.runtime.progress import Progress
from telepath.runtime.resume import Scratch
from telepath.settings import TargetSettings
from telepath.transfer.anchor import Anchor
from telepath.transfer.budget import episodes_per_round
from telepath.transfer.knowledge import Knowledge
from telepath.transfer.labels import Labels
from telepath.transfer.novelty import Cautious, Disagreement
from telepath.transfer.reward import RewardEnsemble, RewardLearner

Weights = dict[str, Tensor]


def copy_of(module: nn.Module) -> Weights:
    """The module's weights and buffers as they are now."""
    return {name: value.clone() for name, value in module.state_dict().items()}


class Snapshot(NamedTuple):
    """What a round did: its agent's weights and pace, and the reward ensemble's weights."""

    agent: Weights
    pace: int
    reward: Weights


class Round(NamedTuple):
    """One row of the diary: what is known of a round without the true reward."""

    steps: int
    updates: int
    inferred_return: float
    confidence: float
    alignment_cost: float
    reward_loss: float
    belief_loss: float


class Refinement:
    """Trains the target policy, resumably."""

    def __init__(
        self,
        environment: Environment,
        agent: Agent,
        belief: BeliefLearner,
        reenactor: Reenactor,
        known: Knowledge,
        labels: Labels,
        pool: Labeller,
        exploration: list[Episode],
        steps: int,
        update_ratio: float,
        settings: TargetSettings,
        seed: int,
    ):
        """``agent`` is trained; ``update_ratio``: updates for each of the ``steps``, after the first ones."""
        torch.manual_seed(seed)
        self.environment, self.agent, self.settings, self.seed = environment, agent, settings, seed
        self.belief, self.reenactor, self.pool = belief, reenactor, pool
        self.known = known
        self.update_ratio = update_ratio
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        dreamer = agent.settings
        span = float(pool.rate.min()), float(pool.rate.max())
        self.reward = RewardEnsemble(agent.model.feature_dim, dreamer, settings, span)
        self.reward_learner = RewardLearner(self.reward, settings)
        self.novelty = Disagreement(agent.model, dreamer, settings.predictors)
        cautious = Cautious(self.reward, self.novelty, settings.caution)
        ratio = reenactor.rates.ratio
        self.learner = Learner(
            ModelLearner(agent.model, dreamer, self.generator, self.novelty, self.novelty.loss),
            BehaviorLearner(agent.model, agent.behavior, cautious, dreamer, seed, ratio, settings.anchor),
        )
        agent.behavior.steady_rate = settings.steady_actor_rate
        self.given = known.agents(ratio)
        self.anchor: Anchor | None = None
        self.episodes_per_round = episodes_per_round(steps, environment.episode_steps, settings)
        self.replay = Replay(exploration, Recency.of(dreamer))
        self.explored = len(exploration)
        self.labels = [replay.rate for replay in labels.replay]
        self.alignments = labels.alignments
        self.updates = 0
        self.rounds: list[Round] = []
        self.snapshots: list[Snapshot] = []
        self.final_steps = 0
        self.losses = {"reward": math.nan, "belief": math.nan}
        self.refresh()

    # -- the schedule -------------------------------------------------------------------------------------------------

    def updates_due(self, rounds: int) -> int:
        """Updates that must have been made when ``rounds`` rounds are over.

        What was given is rolled out before the first of them, and then what the first updates made of the best of it.
        """
        untrained = len(self.given) + bool(self.given)
        if rounds < untrained:
            return 0
        per_round = self.update_ratio * self.episodes_per_round * self.environment.episode_steps
        return self.settings.first_updates + round((rounds - untrained) * per_round)

    @property
    def update_budget(self) -> int:
        """Updates in the whole refinement."""
        return self.updates_due(self.settings.rounds)

    def run(self, progress: Progress, scratch: Scratch) -> None:
        """Refine until the rounds are over, from the last checkpoint in ``scratch`` if there is one."""
        if state := scratch.load():
            self.restore(state)
        progress.advance(self.updates)
        while len(self.rounds) < self.settings.rounds:
            while self.updates < self.updates_due(len(self.rounds) + 1):
                figures = self.update()
                progress.advance(1, steps=self.replay.steps, **figures, **self._last_score())
                scratch.save_if_due(self.state)
            given = self.given[len(self.rounds) :]
            self.finish_round(given[0] if given else self.agent)
        self.ship()

    def _last_score(self) -> dict[str, float]:
        return {"inferred": self.rounds[-1].inferred_return} if self.rounds else {}

    # -- one update ---------------------------------------------------------------------------------------------------

    def update(self) -> dict[str, float]:
        """One step of the world model, the reward ensemble and the behavior; now and then one of the belief net.

        At first the actor is not improved: a reward that is not learned yet and a critic that still believes in the
        source would lead it away from what it can do. It only learns to do the same with latents that have changed.
        """
        dreamer = self.agent.settings
        batch = self.replay.sample(dreamer.batch, dreamer.length, self.rng)

        rate = gather(self.labels, batch.episode, batch.start, dreamer.length)

        def heads(states: Latent) -> dict[str, float]:
            # Record 0 of an episode has no reward to learn.
            real = states.feature, rate, 1 - batch.is_first
            self.losses["reward"] = self.reward_learner.update(real, self.imagined_labels())
            if self.updates % self.settings.belief_every == 0:
                self.losses["belief"] = self.belief.update(batch.observation, states)["belief"]
            return self.losses

        improve = self.updates >= self.settings.first_updates
        wanted = partial(self.anchor.actions, batch) if self.anchor is not None else None
        figures = self.learner.update(batch, rate, heads, improve=improve, wanted=wanted)
        self.updates += 1
        return figures

    def imagined_labels(self) -> tuple[Tensor, Tensor, Tensor]:
        """(feature, rate, weight) of a random lot of re-enacted transitions."""
        count = min(self.settings.imagined_batch, len(self.imagined[1]))
        chosen = torch.from_numpy(self.rng.integers(0, len(self.imagined[1]), count))
        feature, rate, weight = self.imagined
        return feature[chosen], rate[chosen], weight[chosen]

    # -- one round ----------------------------------------------------------------------------------------------------

    def finish_round(self, agent: Agent) -> None:
        """Keep the agent of this round, see what it does, and label that."""
        self.snapshots.append(Snapshot(copy_of(agent), agent.pace, copy_of(self.reward)))
        inferred, confidence = self.roll_out(agent, self.episodes_per_round, keep=True)
        self.labels = self.pool.revise(self.replay.episodes, self.labels)
        self.realign()
        self.refresh()
        self.rounds.append(
            Round(
                self.replay.steps,
                self.updates,
                inferred,
                confidence,
                float(np.median(self.alignments.cost)),
                self.losses["reward"],
                self.losses["belief"],
            )
        )
        self.move_anchor()

    def move_anchor(self) -> None:
        """Stay near the round with the best score from now on, as closely as what was trained so far is worth.

        Where the actor cannot do what the source agent does, there is nothing to be lost, and it is let go. What is
        worth half of a good source episode is held in full. The mean over the rounds: single episodes are won by luck.
        """
        if not self.given:
            return
        anchor = copy.deepcopy(self.agent)
        self.restore_round(self.best_round, anchor)
        self.anchor = Anchor(anchor)
        trained = [r.inferred_return for r in self.rounds[len(self.given) :]]
        # A source that was never paid anything is no measure of what was trained.
        half = 0.5 * self.known.good_return
        worth = float(np.mean(trained)) / half if trained and half > 0 else 1.0
        self.learner.behavior.anchor = self.settings.anchor * min(1.0, worth)

    @property
    def best_round(self) -> int:
        """The round with the highest inferred return so far."""
        return int(np.argmax([r.inferred_return for r in self.rounds]))

    def roll_out(self, agent: Agent, episodes: int, *, keep: bool) -> tuple[float, float]:
        """Inferred return and confidence of the agent as it is judged, means over episodes.

        With ``keep`` they join the replay, and every second one has all of the actor's noise: it shows the world model
        and the reward what lies beside the policy's path. It counts like the others: a score needs episodes more.
        """
        returns, confidences = [], []
        for number in range(episodes):
            explores = keep and number % 2 == 1
            # Where nothing is kept the replay does not grow, but every episode is to begin elsewhere.
            self.environment.reseed(self.seed, len(self.replay) + (0 if keep else number))
            policy = agent.policy(noise=1.0 if explores else None, seed=int(self.rng.integers(2**31)))
            (episode,) = rollout([self.environment], policy)
            labels = self.pool.label(episode)
            returns.append(float(labels.rate[1:].sum()) * self.environment.action_repeat)
            confidences.append(float(labels.confidence.mean()))
            self.final_steps += 0 if keep else episode.steps
            if keep:
                self.replay.add(episode)
                self.labels.append(labels.rate)
        if keep and not self.given:
            # A model that began from nothing; one that began as the source's was trained in the source's units.
            self.agent.model.fit_units(self.replay.observations())
        return float(np.mean(returns)), float(np.mean(confidences))

    def realign(self) -> None:
        """Search the re-enactments of some segments anew, with the policy's own ideas in the population."""
        count = min(self.settings.realign, len(self.known.segments))
        if count == 0:
            return
        chosen = self.rng.choice(len(self.known.segments), count, replace=False)
        seeds = self.rng.integers(2**31, size=count)
        fresh = self.reenactor.align(self.known.segments.take(chosen), seeds, self.agent.behavior.steady)
        for field in ("noise", "actions"):
            getattr(self.alignments, field)[chosen] = getattr(fresh, field)

    def refresh(self) -> None:
        """Imagine and align all re-enactments under today's model: the labels of an old one would be stale."""
        old = self.alignments
        self.alignments = self.reenactor.replay(self.known.segments, old.noise, old.actions)._replace(
            history=old.history
        )
        latent, _ = self.reenactor.latents(self.known.segments, old.noise, old.actions)
        labels = self.reenactor.settings
        null = self.reenactor.null_cost(self.replay.episodes, labels.null_segments, np.random.default_rng(self.seed))
        weight = self.alignments.coverage * np.exp(-self.alignments.cost / (labels.tolerance * null))[:, None]
        # Besides what was re-enacted: source frames as they were paid, good and bad ones alike, where the belief net
        # places them. What a policy newly does is overrated by a reward that has seen the target's replay alone.
        placed = self.reenactor.place(self.known.frames.prefix, self.generator).feature
        paid = torch.from_numpy(self.known.frames.rate)
        self.imagined = (
            torch.cat([latent.feature.transpose(0, 1).flatten(0, 1), placed]),
            torch.cat([torch.from_numpy(self.alignments.rate).flatten(), paid]),
            torch.cat([torch.from_numpy(weight.astype(np.float32)).flatten(), torch.ones_like(paid)]),
        )

    # -- the choice ---------------------------------------------------------------------------------------------------

    def ship(self) -> None:
        """Leave the agent with the policy whose inferred return is best, judged on fresh episodes."""
        scores = np.array([r.inferred_return for r in self.rounds])
        finalists = np.argsort(-scores, kind="stable")[: self.settings.finalists]
        self.final_scores: dict[int, float] = {}
        for number in finalists:
            self.take_up(number)
            self.final_scores[int(number)], _ = self.roll_out(self.agent, self.settings.final_episodes, keep=False)
        self.shipped = max(self.final_scores, key=lambda number: self.final_scores[number])
        self.take_up(self.shipped)

    @property
    def best_trained(self) -> int:
        """The round with the best score among those that were trained; finalists first."""
        first = len(self.given)
        numbers = range(first, len(self.rounds)) if len(self.rounds) > first else range(len(self.rounds))
        return max(numbers, key=lambda n: (self.final_scores.get(n, -math.inf), self.rounds[n].inferred_return))

    def take_up(self, number: int) -> None:
        """Go back to the agent and the reward ensemble of a round."""
        self.restore_round(number, self.agent)
        self.reward.load_state_dict(self.snapshots[number].reward)

    def restore_round(self, number: int, agent: Agent) -> None:
        """Make the agent what it was in a round."""
        agent.load_state_dict(self.snapshots[number].agent)
        agent.pace = self.snapshots[number].pace

    # -- what is left behind ------------------------------------------------------------------------------------------

    @property
    def target_steps(self) -> int:
        """All agent decisions taken in the target, the final judgement included."""
        return self.replay.steps + self.final_steps

    def diary(self) -> pd.DataFrame:
        """A row a round; ``final_score`` only for finalists, ``shipped`` 1 for the chosen one."""
        table = pd.DataFrame(self.rounds, columns=Round._fields)
        table.insert(0, "round", range(len(table)))
        table["final_score"] = table["round"].map(self.final_scores)
        table["shipped"] = (table["round"] == self.shipped).astype(int)
        return table

    def policies(self) -> dict[str, Any]:
        """What the evaluation looks at: every round's agent, the count of steps, and a reward ensemble.

        The ensemble is the shipped round's, or where the source agent is shipped, the best other round's, ``trained``.
        """
        return {
            "rounds": [self.agent.artefact() | {"weights": s.agent, "pace": s.pace} for s in self.snapshots],
            "trained": self.best_trained,
            "reward": self.snapshots[self.best_trained].reward,
            "target_steps": self.target_steps,
        }

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that a bit-identical continuation needs."""
        return {
            "agent": dict(self.agent.state_dict()),
            "reward": dict(self.reward.state_dict()),
            "novelty": dict(self.novelty.state_dict()),
            "learner": self.learner.state(),
            "reward_learner": self.reward_learner.optimizer.state_dict(),
            "belief": self.belief.state(),
            "generator": self.generator.get_state(),
            "rng": self.rng.bit_generator.state,
            "updates": self.updates,
            "rounds": [tuple(row) for row in self.rounds],
            "snapshots": [tuple(snapshot) for snapshot in self.snapshots],
            "losses": self.losses,
            "alignments": tuple(self.alignments),
            "imagined": self.imagined,
            "replay": self.replay.state(self.explored),
            "labels": self.labels[self.explored :],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up ``state()``."""
        self.agent.load_state_dict(state["agent"])
        self.reward.load_state_dict(state["reward"])
        self.novelty.load_state_dict(state["novelty"])
        self.learner.restore(state["learner"])
        self.reward_learner.optimizer.load_state_dict(state["reward_learner"])
        self.belief.restore(state["belief"])
        self.generator.set_state(state["generator"])
        self.rng.bit_generator.state = state["rng"]
        self.updates, self.losses = state["updates"], state["losses"]
        self.rounds = [Round(*row) for row in state["rounds"]]
        self.snapshots = [Snapshot(*snapshot) for snapshot in state["snapshots"]]
        self.alignments = Alignments(*state["alignments"])
        self.imagined = tuple(state["imagined"])
        self.replay.restore(state["replay"])
        self.labels = self.pool.revise(self.replay.episodes, self.labels + state["labels"])
        if self.rounds:
            self.move_anchor()
