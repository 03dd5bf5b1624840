"""PADA's true return, on the same fresh episodes as everyone's."""

from stages.adaptation import evaluate
from stages.artefacts import PADA_POLICY, PADA_RETURNS
from stages.harness import Context, run
from telepath.baselines.pada import adapted_policy
from telepath.baselines.rival import read_policy
from telepath.config import Params
from telepath.evaluation.judge import returns_table
from telepath.files import write_atomically


def main(params: Params, context: Context) -> None:
    """Judge and save; no row where it was left out."""
    if params.observation != "state":
        write_atomically(PADA_RETURNS, returns_table({}).to_csv(index=False))
        return
    evaluate("pada", params, context, lambda dims: read_policy(PADA_POLICY, "pada", params.task, adapted_policy, dims))


if __name__ == "__main__":
    run(main)
