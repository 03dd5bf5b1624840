"""A rival's true return, on the same fresh episodes as everyone's."""

from stages.artefacts import rival_files
from stages.harness import Context, run
from telepath.baselines.catalogue import load_policy
from telepath.config import Params
from telepath.envs.gaps import target_environment
from telepath.evaluation.judge import judge, returns_table
from telepath.files import write_atomically


def main(params: Params, context: Context) -> None:
    """Judge and save."""
    name, seed = context.stage.item, params.seed.evaluate
    policy_file, _, returns_file = rival_files(name)
    away = [target_environment(params.task, params.gap, seed, rewarded=True) for _ in range(params.evaluate.episodes)]
    judged = judge(away, load_policy(policy_file, name, params.task), seed)
    write_atomically(returns_file, returns_table({name: judged}).to_csv(index=False))


if __name__ == "__main__":
    run(main)
