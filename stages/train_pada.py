"""PADA, the one rival of the main pipeline, adapted to the target; a stage of its own, so that no other rival's code
reruns it.
"""

import sys

from stages.adaptation import leave_out, train
from stages.harness import Context, run
from telepath.baselines.pada import Pada
from telepath.config import Params


def main(params: Params, context: Context) -> None:
    """Adapt and save. PADA's models are of states: where frames are observed it is left out, and the report says so."""
    if params.observation != "state":
        print("telepath: train_pada: PADA knows states only: left out", file=sys.stderr, flush=True)
        leave_out("pada", params)
        return
    train("pada", params, context, lambda allowed: Pada(allowed, params.rivals.pada))


if __name__ == "__main__":
    run(main)
