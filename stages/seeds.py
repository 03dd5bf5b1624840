"""The same settings with other seeds, and how far the results lie apart: seeds.csv, which the report reads.

    python -m stages.seeds 1 2 3

Not a stage. Each number runs the whole pipeline with itself as ``seed.source`` and ``seed.target``, as the experiment
seed-NUMBER of DVC's in a folder of its own, after another; the workspace stays as it is. What is up to date comes from
the cache, and what was interrupted goes on from its checkpoint. The returns, and those of the workspace's own run,
become rows of seeds.csv. Like costs.csv it belongs to files by their content: rows of a run that is not the
workspace's, or of other settings, are never shown beside it.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stages.artefacts import EVALUATION, REPORTS
from stages.harness import SETTINGS, dvc_hash
from telepath.config import Params, load
from telepath.errors import UserError
from telepath.evaluation.evidence import JUDGED, read_table
from telepath.evaluation.findings import AGENTS
from telepath.files import write_atomically

SEEDS = Path("seeds.csv")
RECORD = Path("dvc.lock")
METRICS = REPORTS / "metrics.json"

RUN = ("settings", "made", "seed_source", "seed_target", "commit")
"""Columns: digests of all settings but two seeds, and dvc's of the evaluation; those seeds; the code. Then returns."""

KEY = ("settings", "seed_source", "seed_target")
"""Columns that tell rows apart."""

Row = dict[str, Any]


def read_seeds() -> pd.DataFrame:
    """seed_source, seed_target, commit and the agents' mean true returns: the workspace's run and, of those with the
    same settings but for these seeds, the others. Empty where that run was never collected.
    """
    table = read_table(SEEDS, (*RUN, *JUDGED), rows=False)
    here = table[table["made"] == dvc_hash(EVALUATION)]
    same = table[table["settings"].isin(here["settings"])]
    agents = [agent for agent in AGENTS if agent in same and same[agent].notna().all()]
    return same[[*RUN[2:], *agents]].reset_index(drop=True)


def row(params: Params, record: str, metrics: str, commit: str) -> Row:
    """What is kept of a run: of its settings, dvc.lock and metrics.json."""
    settings = params.model_dump(mode="json")
    seeds = settings.pop("seed")
    digest = hashlib.sha256(json.dumps([settings, seeds["evaluate"]], sort_keys=True).encode()).hexdigest()[:16]
    outs = yaml.safe_load(record)["stages"]["evaluate"]["outs"]
    made = next(out["md5"] for out in outs if out["path"] == EVALUATION.as_posix())
    returns = {agent: json.loads(metrics)[f"{agent}_return"] for agent in AGENTS}
    return dict(zip(RUN, (digest, made, seeds["source"], seeds["target"], commit), strict=True)) | returns


def of_workspace(params: Params, commit: str) -> Row:
    """The run that lies here; ``UserError`` where there is none, or another than dvc has recorded."""
    try:
        found = row(params, RECORD.read_text(encoding="utf-8"), METRICS.read_text(encoding="utf-8"), commit)
        current = found["made"] == dvc_hash(EVALUATION)
    except (OSError, ValueError, KeyError, TypeError, StopIteration, yaml.YAMLError):
        current = False
    if not current:
        raise UserError(f"{METRICS}: belongs to no run that is up to date; run `make repro` first")
    return found


def of_experiment(params: Params, seed: int, commit: str) -> Row:
    """Run the pipeline with this seed, as far as it is not up to date."""
    name = f"seed-{seed}"
    settings = [f"--set-param=seed.{side}={seed}" for side in ("source", "target")]
    if subprocess.run(["dvc", "exp", "run", "--temp", "--force", "--name", name, *settings]).returncode:
        raise UserError(f"{name}: did not come to its end, see above; the same command goes on from there")
    # An experiment is a commit of dvc's, under a name that git knows.
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    record, metrics = (git("show", f"{reference}:{path.as_posix()}") for path in (RECORD, METRICS))
    return row(seeded(params, seed), record, metrics, commit)


def seeded(params: Params, seed: int) -> Params:
    """The settings with this seed on both sides."""
    return params.model_copy(update={"seed": params.seed.model_copy(update={"source": seed, "target": seed})})


def git(*words: str) -> str:
    """What git says."""
    done = subprocess.run(["git", *words], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {words[0]}: {done.stderr.strip().partition(chr(10))[0]}")
    return done.stdout


def collect(seeds: Sequence[int]) -> None:
    """Run them one after the other; each row is written as soon as it is there."""
    params, commit = load(SETTINGS), git("rev-parse", "HEAD").strip()
    keep(of_workspace(params, commit))
    for seed in seeds:
        if (seed, seed) != (params.seed.source, params.seed.target):
            keep(of_experiment(params, seed, commit))


def keep(found: Row) -> None:
    """Put a row in the place of the one with the same settings and seeds, or at the end."""
    table = read_table(SEEDS, (*RUN, *JUDGED), rows=False)
    other = (table[list(KEY)] != [found[name] for name in KEY]).any(axis=1)
    rows = pd.concat([table[other], pd.DataFrame([found])], ignore_index=True).sort_values(list(KEY), kind="stable")
    write_atomically(SEEDS, rows.to_csv(index=False, lineterminator="\n"))


def whole(text: str) -> int:
    """A seed as params.yaml takes it."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: a whole number of nine digits at most")
    return int(text)


def main(words: Sequence[str]) -> None:
    """Read the command line, run, and say what stands in the way in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=whole, nargs="+", metavar="NUMBER")
    asked = parser.parse_args(words)
    try:
        collect(asked.seeds)
    except UserError as error:
        sys.exit(f"telepath: seeds: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
