"""What the stages took: measured by the harness, written into costs.csv at the end of `make repro`, read by the report.

    python -m stages.costs

Not a stage. Minutes differ from run to run, so they are no output of one: the same settings would no longer give the
same bytes. Here they are an input of the report instead, and belong to files, by their content: the cost of other files
is never shown.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stages.artefacts import (
    BELIEF,
    EXPLORED_AGENT,
    LABELS,
    ORACLE_AGENT,
    PADA_POLICY,
    SOURCE_AGENT,
    SOURCE_SEEDS,
    TARGET_AGENT,
    rival_files,
)
from stages.harness import RIVALS, SETTINGS, content_hash, fingerprint, home, read_stage, read_stages
from telepath.config import load
from telepath.errors import UserError
from telepath.evaluation.evidence import Cost, read_table
from telepath.files import write_atomically
from telepath.runtime.ledger import LEDGER, last_run

COSTS = Path("costs.csv")

MADE = {
    "collect_source": SOURCE_SEEDS,
    "train_source": SOURCE_AGENT,
    "explore_target": EXPLORED_AGENT,
    "train_belief": BELIEF,
    "label": LABELS,
    "train_target": TARGET_AGENT,
    "train_pada": PADA_POLICY,
    "train_oracle": ORACLE_AGENT,
}
"""The stages that the report counts, and by which of its outputs each is known."""

RIVAL_STAGES = ("train_rival", "train_labelled", "train_online")
"""Those of the other rivals, one for each value of their axis: STAGE@RIVAL."""

COLUMNS = ("stage", "made", "minutes", "mebibytes")


def made() -> dict[str, Path]:
    """``MADE``, and the same of every other rival's training."""
    stages = read_stages(RIVALS) if RIVALS.exists() else {}
    items = {
        f"{name}@{item}": item for name in RIVAL_STAGES if name in stages for item in stages[name]["matrix"]["rival"]
    }
    return MADE | {stage: rival_files(item)[0] for stage, item in items.items()}


def read_costs() -> dict[str, Cost]:
    """The costs of what lies in this workspace; of a stage that was not measured, or made other files, none."""
    table = read_rows()
    costs, files = {}, made()
    for stage, content, minutes, mebibytes in table[list(COLUMNS)].itertuples(index=False):
        if stage in files and files[stage].exists() and content_hash(files[stage]) == content:
            costs[stage] = Cost(float(minutes), float(mebibytes))
    return costs


def read_rows() -> pd.DataFrame:
    """The table as it is."""
    with made_by_no_stage():
        return read_table(COSTS, COLUMNS, rows=False)


@contextlib.contextmanager
def made_by_no_stage() -> Iterator[None]:
    """What is wrong with a table in here is mended by ``stages.unlock`` alone, and that is said."""
    try:
        yield
    except UserError as error:
        what = str(error).partition(";")[0]
        raise UserError(f"{what}; `make repro` puts the committed one in its place if you delete it") from None


def measured() -> dict[str, Cost]:
    """The costs of the stages that ran here on what lies in this workspace, stopped sessions included."""
    params, costs = load(SETTINGS), {}
    for stage, file in made().items():
        if not file.exists():
            continue
        name, _, item = stage.partition("@")
        run = last_run(home() / LEDGER, stage, fingerprint(read_stage(name, params, item), params))
        if run:
            minutes = sum(session.seconds for session in run) / 60
            costs[stage] = Cost(round(minutes, 2), round(max(session.mebibytes for session in run)))
    return costs


def main() -> None:
    """Replace the rows of what was measured here."""
    found = measured()
    table = read_rows()
    kept = table[~table["stage"].isin(found)][list(COLUMNS)]
    files = made()
    new = pd.DataFrame([(stage, content_hash(files[stage]), *cost) for stage, cost in found.items()], columns=COLUMNS)
    order = {stage: number for number, stage in enumerate(files)}
    whole = pd.concat([kept, new], ignore_index=True).sort_values("stage", key=lambda names: names.map(order))
    write_atomically(COSTS, whole.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    try:
        main()
    except (OSError, UserError) as error:
        sys.exit(f"telepath: costs: {error}")
