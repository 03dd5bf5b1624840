"""What `make repro` prints at its end: the numbers of the report, and where it is. Not a stage."""

import json
import sys

from stages.artefacts import REPORTS
from telepath.evaluation.report import summary_table

if __name__ == "__main__":
    try:
        metrics = json.loads((REPORTS / "metrics.json").read_text(encoding="utf-8"))
        print(summary_table(metrics, REPORTS / "index.md"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        sys.exit(f"telepath: {REPORTS / 'metrics.json'}: not readable ({error}); run `dvc repro`")
