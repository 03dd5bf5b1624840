"""The rivals beside Telepath and the oracle: reports/rivals.md and reports/rivals.csv."""

from stages.artefacts import EVALUATION, FACTS, ORACLE_CURVE, ORACLE_RETURNS, REPORTS, rival_files
from stages.costs import read_costs
from stages.harness import Context, run
from telepath.config import Params
from telepath.evaluation.evidence import read_facts, read_table
from telepath.evaluation.rivals import RIVALS, Effort, compare, write_comparison


def main(params: Params, context: Context) -> None:
    """Gather the returns and write."""
    columns = ("agent", "episode", "return", "divergences")
    facts, returns = read_facts(FACTS), [read_table(EVALUATION / "returns.csv", columns)]
    effort = {"telepath": Effort(facts["target_steps"], facts["target_divergences"])}
    files = {name: rival_files(name)[1:] for name in RIVALS} | {"oracle": (ORACLE_CURVE, ORACLE_RETURNS)}
    for name, (curve_file, returns_file) in files.items():
        last = read_table(curve_file, ("steps", "divergences")).iloc[-1]
        effort[name] = Effort(int(last["steps"]), int(last["divergences"]))
        returns.append(read_table(returns_file, columns))
    write_comparison(compare(returns, effort, read_costs(), params), params, REPORTS)


if __name__ == "__main__":
    run(main)
