"""The same settings with other seeds, and how far the results lie apart: seeds.csv, which the report reads.

    python -m stages.seeds 1 2 3

Not a stage. Each number runs the whole pipeline with itself as ``seed.source`` and ``seed.target``, as the experiment
seed-NUMBER of DVC's in a folder of its own, after another; the workspace stays as it is. What was done before comes
from DVC's run cache, and what was interrupted goes on from its checkpoint. The returns, and those of the workspace's
own run, become rows of seeds.csv. Like costs.csv it belongs to files by their content: rows of a run that is not the
workspace's, or of other settings, are never shown beside it.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from stages.artefacts import EVALUATION, REPORTS
from stages.costs import made_by_no_stage
from stages.harness import FAILED, PIPELINE, SETTINGS, dvc_hash
from telepath.config import Params, load
from telepath.errors import UserError
from telepath.evaluation.evidence import JUDGED, read_table
from telepath.evaluation.findings import AGENTS
from telepath.files import one_line, write_atomically
from telepath.runtime.interrupt import INTERRUPTED, end_with_parent, stop_on_signals

SEEDS = Path("seeds.csv")
RECORD = Path("dvc.lock")
METRICS = REPORTS / "metrics.json"
CODE = ("stages", "telepath", "dvc.yaml")
"""What a commit has to hold for its name to say how a row was made."""

RUN = ("settings", "made", "seed_source", "seed_target", "commit")
"""Columns: digests of all settings but two seeds, and dvc's of the evaluation; those seeds; the code. Then returns."""

KEY = ("settings", "seed_source", "seed_target")
"""Columns that tell rows apart."""

Row = dict[str, Any]


# -- the table -------------------------------------------------------------------------------------------------------


def read_seeds() -> pd.DataFrame:
    """seed_source, seed_target, commit and the agents' mean true returns: the workspace's run and, of those with the
    same settings but for these seeds, the others. Empty where that run was never collected.
    """
    table = read_rows()
    here = table[table["made"] == dvc_hash(EVALUATION)]
    same = table[table["settings"].isin(here["settings"])]
    agents = [agent for agent in AGENTS if same[agent].notna().all()]
    return same[[*RUN[2:], *agents]].reset_index(drop=True)


def read_rows() -> pd.DataFrame:
    """All rows; a ``UserError`` where they can be none of ours."""
    with made_by_no_stage():
        table = read_table(SEEDS, (*RUN, *JUDGED), rows=False)
        if list(table.columns) != [*RUN, *AGENTS]:
            raise UserError(f"{SEEDS}: has other columns")
        returns = table[list(AGENTS)].apply(pd.to_numeric, errors="coerce").astype(np.float64)
        if np.isinf(returns).to_numpy().any() or (returns.isna() & table[list(AGENTS)].notna()).to_numpy().any():
            raise UserError(f"{SEEDS}: has returns that are no numbers")
        seeds = table[["seed_source", "seed_target"]]
        odd = len(table) and ((seeds % 1 != 0) | (seeds < 0)).to_numpy().any()
        if odd or table.duplicated(list(KEY)).any():
            raise UserError(f"{SEEDS}: has seeds that are none, or a row twice")
    return table.assign(**{agent: returns[agent] for agent in AGENTS})


def keep(found: Row) -> None:
    """Put a row in the place of the one with the same settings and seeds, or at the end."""
    table = read_rows()
    other = (table[list(KEY)] != [found[name] for name in KEY]).any(axis=1)
    rows = [*table[other].to_dict("records"), found]
    whole = pd.DataFrame(rows, columns=[*RUN, *AGENTS]).sort_values(list(KEY), kind="stable")
    write_atomically(SEEDS, whole.to_csv(index=False, lineterminator="\n"))


def row(params: Params, record: str, metrics: str, commit: str) -> Row:
    """What is kept of a run: of its settings, dvc.lock and metrics.json."""
    settings = params.model_dump(mode="json")
    seeds = settings.pop("seed")
    digest = hashlib.sha256(json.dumps([settings, seeds["evaluate"]], sort_keys=True).encode()).hexdigest()
    outs = yaml.safe_load(record)["stages"]["evaluate"]["outs"]
    made = next(out["md5"] for out in outs if out["path"] == EVALUATION.as_posix())
    returns = {agent: json.loads(metrics)[f"{agent}_return"] for agent in AGENTS}
    # A letter first: digits alone would be read as a number.
    return dict(zip(RUN, (f"p{digest[:16]}", made, seeds["source"], seeds["target"], commit), strict=True)) | returns


# -- runs ------------------------------------------------------------------------------------------------------------


def of_workspace() -> Row:
    """The run that lies here; ``UserError`` where there is none, or another than dvc has recorded."""
    params, commit = load(SETTINGS), head()
    try:
        found = row(params, RECORD.read_text(encoding="utf-8"), METRICS.read_text(encoding="utf-8"), commit)
        current = found["made"] == dvc_hash(EVALUATION)
    except (OSError, ValueError, KeyError, TypeError, StopIteration, yaml.YAMLError):
        current = False
    if not current:
        raise UserError(f"{METRICS}: belongs to no run that is up to date; run `make repro` first")
    return found


def of_experiment(seed: int) -> Row:
    """Run the pipeline with this seed, as far as it was not done before."""
    commit, name = head(), f"seed-{seed}"
    if changed := git("status", "--porcelain", "--", *CODE).split():
        raise UserError(
            f"{changed[1]}: differs from what is committed; commit it first, so that a row can name its code"
        )
    # An experiment is a commit of dvc's, under a name that git knows.
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    if git("for-each-ref", reference):
        git("update-ref", "-d", reference)  # dvc makes no second one of a name; what it made is in its cache
    settings = [f"--set-param=seed.{side}={seed}" for side in ("source", "target")]
    # The pipeline by its name: without it dvc warns of every rival that was never run.
    if run("dvc", "exp", "run", "--temp", "--name", name, *settings, PIPELINE.name):
        raise UserError(f"{name}: did not come to its end, see above; the same command goes on from there")
    shown = (git("show", f"{reference}:{path.as_posix()}") for path in (SETTINGS, RECORD, METRICS))
    params, record, metrics = shown
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / SETTINGS.name
        write_atomically(copy, params)
        return row(load(copy), record, metrics, commit)


def head() -> str:
    """The commit that is checked out."""
    return git("rev-parse", "HEAD").strip()


def git(*words: str) -> str:
    """What git says."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f"git: {error.strerror}; install it") from None
    if done.returncode:
        raise UserError(f"git {words[0]}: {one_line(done.stderr)}; this needs a clone with a commit")
    return done.stdout


def run(*words: str) -> int:
    """Run a program that says on the terminal how it goes, and goes when we go; its exit status."""
    try:
        with subprocess.Popen(words, preexec_fn=end_with_parent) as process:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.terminate()
                raise
    except OSError as error:
        raise UserError(f"{words[0]}: {error.strerror}; `. .venv/bin/activate` first, or use make") from None


def collect(seeds: Sequence[int]) -> None:
    """Run them one after the other; each row is written as soon as it is there."""
    here = of_workspace()
    keep(here)
    for seed in seeds:
        if (seed, seed) != (here["seed_source"], here["seed_target"]):
            keep(of_experiment(seed))


def whole(text: str) -> int:
    """A seed as params.yaml takes it."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{one_line(repr(text))} is no seed: give whole numbers of nine digits at most")
    return int(text)


def main(words: Sequence[str]) -> None:
    """Run the seeds that the command line names, and say what stands in the way in one line."""
    stop_on_signals()
    try:
        if not words:
            raise UserError("give the numbers, as in `python -m stages.seeds 1 2`")
        collect([whole(word) for word in words])
    except UserError as error:
        print(f"telepath: seeds: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("telepath: seeds: interrupted; the same command goes on from there", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
