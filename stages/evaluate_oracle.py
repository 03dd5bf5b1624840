"""The oracle's true return, on the same fresh episodes as everyone's; apart, since nothing else waits for an oracle."""

from stages.artefacts import ORACLE_AGENT, ORACLE_RETURNS
from stages.harness import Context, run
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import target_environment
from telepath.episodes import total_divergences
from telepath.evaluation.judge import Court, returns_table
from telepath.files import write_atomically


def main(params: Params, context: Context) -> None:
    """Judge and save."""
    seed, kind = params.seed.evaluate, params.observation
    away = [
        target_environment(params.task, params.gap, seed, rewarded=True, observation=kind)
        for _ in range(params.evaluate.episodes)
    ]
    dims = away[0].observation, away[0].action_dim
    policy = Agent.load(ORACLE_AGENT, params.task, kind, dims).policy()
    with context.scratch() as scratch:
        judged = Court(scratch, seed).judge(away, policy)
    context.tell_divergences(total_divergences(judged))
    write_atomically(ORACLE_RETURNS, returns_table({"oracle": judged}).to_csv(index=False))


if __name__ == "__main__":
    run(main)
