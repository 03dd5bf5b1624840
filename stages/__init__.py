"""What must hold before a stage's imports, which take seconds: who is killed meanwhile must not run on.

No result depends on this file.
"""

import os
import sys

from telepath.runtime.interrupt import die_on_signals, end_with_parent

if sys.argv[0] == "-m":  # this is the start of `python -m stages.NAME`, not somebody's import
    # Pictures are drawn into files, whatever a notebook's terminal asks for; and the alignment exists compiled only.
    os.environ["MPLBACKEND"] = "agg"
    os.environ.pop("NUMBA_DISABLE_JIT", None)
    die_on_signals()
    if "DVC_STAGE" in os.environ:
        # Only then: a stage started by hand with nohup shall outlive its shell.
        end_with_parent()
