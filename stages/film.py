"""What is rendered: the film of source at home, zero-shot, Telepath and oracle side by side, and re-enactments of
states as poses; or a note that there is none, and why.
"""

import json
import sys

import pandas as pd

from stages.artefacts import (
    EVALUATION,
    LABELS,
    ORACLE_AGENT,
    ORACLE_RETURNS,
    SOURCE_AGENT,
    SOURCE_EPISODES,
    TARGET_AGENT,
)
from stages.harness import Context, run
from stages.pictures import FILM, FILM_FACTS, POSES
from telepath.config import Params
from telepath.dreamer.agent import Agent
from telepath.envs.gaps import target_environment
from telepath.envs.gl import NoGraphics, find_backend
from telepath.envs.suite import Environment
from telepath.errors import UserError
from telepath.evaluation.agents import FILMED
from telepath.evaluation.evidence import Film, Reenactments, read_reenactments, read_table
from telepath.evaluation.film import Take, Timing, make_gif, shoot, typical_episode
from telepath.evaluation.poses import posed
from telepath.evaluation.strips import drawn_strips
from telepath.files import MEND, write_atomically


def main(params: Params, context: Context) -> None:
    """Film the most typical episode of the evaluation, if anything can be rendered here."""
    try:
        find_backend()
        film = make_film(params, context)
    except NoGraphics as reason:
        print(f"telepath: film: none is made: {reason}", file=sys.stderr, flush=True)
        film = Film(str(reason), [], 0, 0.0, None)
    write_atomically(FILM_FACTS, json.dumps(film._asdict(), indent=2) + "\n")


def make_film(params: Params, context: Context) -> Film:
    """Write the film; what is in it. Agents act as in the evaluation."""
    task, seed = params.tasks[params.task], params.seed.evaluate
    home = Environment(params.task, task.action_repeat, seed, observation=params.observation)
    away = target_environment(params.task, params.gap, seed, rewarded=True, observation=params.observation)
    dims = away.observation, away.action_dim
    agents = {
        name: Agent.load(path, params.task, params.observation, dims)
        for name, path in (("source", SOURCE_AGENT), ("telepath", TARGET_AGENT), ("oracle", ORACLE_AGENT))
    }
    agents["zero_shot"] = agents["source"]
    batch = params.evaluate.episodes
    episode = typical_episode(read_returns(batch))
    repeat = task.action_repeat
    reenactments = read_reenactments(
        LABELS, SOURCE_EPISODES, params.label.prefix, params.label.reference, repeat, params.observation
    )
    timing = Timing.of(home.frame_seconds)
    with context.scratch() as scratch:
        done = scratch.load_parts()
        for number, name in enumerate(FILMED):
            if number not in done:
                stage = home if name == "source" else away
                take = shoot(stage, agents[name].policy(), timing, seed, episode, batch)
                done[number] = take._asdict()
                scratch.save_part(number, done[number])
    takes = {name: Take(**done[number]) for number, name in enumerate(FILMED)}
    write_atomically(FILM, make_gif(takes, timing))
    # The report shows frames themselves; states need a body to be seen.
    misfit = draw_poses(reenactments, home, away) if params.observation == "state" else None
    return Film("", list(FILMED), episode, float(timing.seconds[-1]), misfit)


def draw_poses(found: Reenactments, home: Environment, away: Environment) -> float | None:
    """Draw the alignments of states as poses; how far these are off, None where they cannot be drawn."""
    try:
        rendered, misfit = posed(found, home, away)
    except ValueError as reason:
        print(f"telepath: film: no poses are drawn: {reason}", file=sys.stderr, flush=True)
        return None
    drawn_strips(rendered, home.step_seconds, away.step_seconds, POSES)
    return misfit


def read_returns(episodes: int) -> pd.DataFrame:
    """True returns of those who are filmed: a row an episode, a column an agent; ``UserError`` if any is missing."""
    columns = ("agent", "episode", "return")
    tables = [read_table(path, columns) for path in (EVALUATION / "returns.csv", ORACLE_RETURNS)]
    returns = pd.concat(tables).pivot_table("return", "episode", "agent").reindex(columns=FILMED)
    if returns.index.tolist() != list(range(episodes)) or returns.isna().to_numpy().any():
        raise UserError(f"{EVALUATION}: not the returns of {episodes} episodes of {', '.join(FILMED)}; {MEND}")
    return returns


if __name__ == "__main__":
    run(main)
