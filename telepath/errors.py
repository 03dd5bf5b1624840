"""The exceptions that end a stage with one line: bad input, and numbers that are not finite."""

from collections.abc import Mapping
from typing import Any


class UserError(Exception):
    """Bad input that the user can mend.

    The message is a single line that names the key, file or package, what is wrong with it, and the mend.
    Stages print it without a traceback and exit with status 1.
    """


class Fault(FloatingPointError):
    """Numbers that are not finite where they must be.

    The message names the part and the first bad tensor; ``evidence`` holds what the part was working on: arrays by
    name. Stages write them to a file, print one line and exit with status 1.
    """

    def __init__(self, message: str, evidence: Mapping[str, Any]):
        super().__init__(message)
        self.evidence = evidence

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled whole: it may come from a worker process."""
        return type(self), (*self.args, self.evidence)
