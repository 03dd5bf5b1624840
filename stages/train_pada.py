"""PADA, the one rival of the main pipeline, adapted to the target; a stage of its own, so that no other rival's code
reruns it.
"""

from stages.adaptation import train
from stages.harness import Context, run
from telepath.baselines.pada import Pada
from telepath.config import Params


def main(params: Params, context: Context) -> None:
    """Adapt and save."""
    train("pada", params, context, lambda allowed: Pada(allowed, params.rivals.pada))


if __name__ == "__main__":
    run(main)
