"""The true target reward, read by judges and oracles alone: every agent judged on the same fresh episodes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.artefacts import (
    BELIEF,
    EVALUATION,
    EXPLORATION,
    EXPLORED_AGENT,
    FACTS,
    LABELS,
    SOURCE_AGENT,
    SOURCE_EPISODES,
    TARGET_AGENT,
    TARGET_POLICIES,
    TARGET_ROUNDS,
)
from stages.harness import Context, run
from telepath.alignment.belief import BeliefNet
from telepath.alignment.matching import SourcePool
from telepath.alignment.rates import Rates
from telepath.alignment.reenact import Reenactor
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.dreamer.behavior import RewardHead
from telepath.envs.gaps import induced_gap, target_environment
from telepath.envs.rollout import ActionHold, Policy, RandomPolicy
from telepath.envs.suite import Environment
from telepath.episodes import Episode, load_episodes, save_arrays, total_divergences, total_steps
from telepath.errors import UserError
from telepath.evaluation.evidence import HELDOUT_POLICIES, read_table
from telepath.evaluation.heldout import compare_rewards
from telepath.evaluation.judge import Court, returns_table, rounds_table
from telepath.evaluation.null import null_costs
from telepath.files import MEND, write_atomically
from telepath.observations import Observation
from telepath.runtime.store import load_state
from telepath.transfer.labels import Labels


def main(params: Params, context: Context) -> None:
    """Judge every agent, follow Telepath's rounds, compare inferred with true reward, and measure the gap."""
    task, seed, settings = params.tasks[params.task], params.seed.evaluate, params.evaluate
    kind, count = params.observation, settings.episodes
    home = [Environment(params.task, task.action_repeat, seed, observation=kind) for _ in range(count)]
    away = [target_environment(params.task, params.gap, seed, rewarded=True, observation=kind) for _ in range(count)]
    rates = Rates(task.action_repeat, params.gap.action_repeat, home[0].frame_seconds)
    dims = away[0].observation, away[0].action_dim
    agents = {
        "source": Agent.load(SOURCE_AGENT, params.task, kind, dims),
        "telepath": Agent.load(TARGET_AGENT, params.task, kind, dims),
    }
    source = load_episodes(SOURCE_EPISODES, rewarded=True, dims=dims)
    exploration = load_episodes(EXPLORATION, rewarded=False, dims=dims)
    diary = read_table(TARGET_ROUNDS, ["steps"])
    stored = read_policies(TARGET_POLICIES, len(diary), dims)
    reward = RewardHead(agents["telepath"].model.feature_dim, params.dreamer)
    load_weights(reward, stored["reward"])
    explored = Agent.load(EXPLORED_AGENT, params.task, kind, dims).model
    belief = BeliefNet.load(BELIEF, explored, params.belief)
    labels = Labels.load(LABELS, exploration, away[0].observation)
    policies: dict[str, Policy] = {
        "random": RandomPolicy(away[0].action_dim, np.random.default_rng(seed)),
        "zero_shot": agents["source"].policy(),
        "telepath": agents["telepath"].policy(),
    }
    if rates.ratio > 1:
        policies["action_hold"] = ActionHold(agents["source"].policy(), int(rates.ratio))
    with (
        context.progress(2 + len(policies) + len(stored["rounds"]), "agents") as progress,
        context.scratch() as scratch,
    ):
        court = Court(scratch, seed)
        judged: dict[str, list[Episode]] = {}
        for name, policy, environments in [("source", agents["source"].policy(), home)] + [
            (name, policy, away) for name, policy in policies.items()
        ]:
            judged[name] = court.judge(environments, policy)
            progress.advance(1, **{name: float(np.mean([episode.ret for episode in judged[name]]))})
        rounds = []
        for artefact in stored["rounds"]:
            policy = Agent.from_artefact(artefact, TARGET_POLICIES).policy()
            rounds.append(court.judge(away[: settings.curve_episodes], policy))
            progress.advance(1, round=float(np.mean([episode.ret for episode in rounds[-1]])))
        pool = SourcePool(source, labels.scale, rates, params.label.match)
        heldout = {name: judged[name][: settings.heldout_episodes] for name in HELDOUT_POLICIES}
        judge_of_rewards = Agent.from_artefact(stored["rounds"][stored["trained"]], TARGET_POLICIES)
        compared = compare_rewards(heldout, pool, judge_of_rewards, reward, params.gap.action_repeat)
        reenactor = Reenactor(explored, belief, labels.scale, rates, params.label)
        null = null_costs(reenactor, exploration, params.label.null_segments, seed)
        gap = induced_gap(params.task, task.action_repeat, params.gap, seed)
        progress.advance(1, tau=pool.tau)
    context.tell_divergences(sum(total_divergences(episodes) for episodes in (*judged.values(), *rounds)))
    tables = {
        "returns": returns_table(judged),
        "rounds": rounds_table(diary["steps"].tolist(), rounds, settings.confidence),
        "null": pd.DataFrame({"cost": null}),
        "gap": pd.DataFrame({"seconds": gap.seconds, "divergence": gap.divergence}),
    }
    for name, table in tables.items():
        write_atomically(EVALUATION / f"{name}.csv", table.to_csv(index=False))
    save_arrays(EVALUATION / "heldout.npz", compared)
    facts = {
        "source_steps": total_steps(source),
        "target_steps": stored["target_steps"],
        "target_divergences": stored["target_divergences"],
        "observation_names": list(home[0].observation_names),
        "frame_seconds": home[0].frame_seconds,
    }
    write_atomically(FACTS, json.dumps(facts, indent=2, sort_keys=True) + "\n")


def read_policies(path: Path, count: int, dims: tuple[Observation | int, int]) -> dict[str, Any]:
    """What ``Refinement.policies`` left of ``count`` rounds; ``UserError`` where it cannot be that."""
    stored = load_state(path, kind="policies")
    rounds, trained = (stored.get(key) if isinstance(stored, dict) else None for key in ("rounds", "trained"))
    whole = isinstance(rounds, list) and isinstance(trained, int) and 0 <= trained < len(rounds) == count
    whole = whole and all(isinstance(stored.get(key), int) for key in ("target_steps", "target_divergences"))
    if not whole or "reward" not in stored:
        raise UserError(f"{path}: not as `train_target` leaves it; {MEND}")
    for artefact in stored["rounds"]:
        # One at a time, for its error: now, and not when its turn has come.
        Agent.from_artefact(artefact, path).demand(path, dims)
    return dict(stored)


def load_weights(reward: RewardHead, weights: dict[str, Any]) -> None:
    """Give the head its stored weights."""
    try:
        reward.load_state_dict(weights)
    except (TypeError, AttributeError, RuntimeError):
        raise UserError(f"{TARGET_POLICIES}: its reward head does not fit the settings; {MEND}") from None


if __name__ == "__main__":
    run(main)
