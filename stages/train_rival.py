"""A rival, named by the argument, adapted to the target without its reward: with Telepath's number of target steps."""

from stages.adaptation import train
from stages.harness import Context, run
from telepath.baselines.catalogue import make_rival
from telepath.config import Params


def main(params: Params, context: Context) -> None:
    """Adapt and save."""
    name = context.stage.item
    settings = getattr(params.rivals, name)
    train(name, params, context, lambda allowed: make_rival(allowed, settings))


if __name__ == "__main__":
    run(main)
