"""A rival's true return, on the same fresh episodes as everyone's."""

from stages.adaptation import evaluate
from stages.artefacts import rival_files
from stages.harness import Context, run
from telepath.baselines.catalogue import load_policy
from telepath.config import Params


def main(params: Params, context: Context) -> None:
    """Judge and save."""
    name = context.stage.item
    policy_file, _, _ = rival_files(name)
    evaluate(name, params, context, lambda dims: load_policy(policy_file, name, params.task, dims))


if __name__ == "__main__":
    run(main)
