"""The rivals beside Telepath: reports/rivals.md and reports/rivals.csv."""

from stages.artefacts import EVALUATION, FACTS, REPORTS, rival_files
from stages.harness import Context, run
from telepath.config import Params
from telepath.evaluation.evidence import read_facts, read_table
from telepath.evaluation.rivals import RIVALS, compare, write_comparison


def main(params: Params, context: Context) -> None:
    """Gather the returns and write."""
    columns = ("agent", "episode", "return")
    steps, returns = {"telepath": read_facts(FACTS)["target_steps"]}, [read_table(EVALUATION / "returns.csv", columns)]
    for name in RIVALS:
        _, curve_file, returns_file = rival_files(name)
        steps[name] = int(read_table(curve_file, ("steps",))["steps"].iloc[-1])
        returns.append(read_table(returns_file, columns))
    write_comparison(compare(returns, steps, params), params, REPORTS)


if __name__ == "__main__":
    run(main)
