"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """Bad input that the user can mend.

    The message is a single line that names the key, file or package, what is wrong with it, and the mend.
    Stages print it without a traceback and exit with status 1.
    """
