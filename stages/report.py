"""The report: reports/index.md, reports/index.html, reports/metrics.json, reports/details.json and the figures."""

from stages.artefacts import (
    EVALUATION,
    FACTS,
    LABELS,
    ORACLE_CURVE,
    ORACLE_RETURNS,
    PADA_CURVE,
    PADA_RETURNS,
    REPORTS,
    SOURCE_CURVE,
    SOURCE_EPISODES,
    TARGET_ROUNDS,
)
from stages.costs import read_costs
from stages.harness import Context, run
from stages.pictures import FILM_FACTS
from stages.seeds import read_seeds
from telepath.config import Params
from telepath.evaluation.evidence import read_evidence, read_film, read_reenactments
from telepath.evaluation.report import write_report


def main(params: Params, context: Context) -> None:
    """Gather the evidence and write."""
    repeat = params.tasks[params.task].action_repeat
    evidence = read_evidence(
        source_curve=SOURCE_CURVE,
        oracle_curve=ORACLE_CURVE,
        oracle_returns=ORACLE_RETURNS,
        pada_curve=PADA_CURVE,
        pada_returns=PADA_RETURNS,
        diary=TARGET_ROUNDS,
        evaluation=EVALUATION,
        facts=FACTS,
        reenactments=read_reenactments(
            LABELS, SOURCE_EPISODES, params.label.prefix, params.label.reference, repeat, params.observation
        ),
        film=read_film(FILM_FACTS),
        costs=read_costs(),
        trainings=read_seeds(),
    )
    write_report(evidence, params, REPORTS)


if __name__ == "__main__":
    run(main)
