"""How the target's steps are shared out."""

from telepath.settings import TargetSettings


def episodes_per_round(steps: int, episode_steps: int, settings: TargetSettings) -> int:
    """Episodes that a round may roll out so that all rounds and the final judgement stay within ``steps``."""
    return (steps // episode_steps - settings.finalists * settings.final_episodes) // settings.rounds
