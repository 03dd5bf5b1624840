from stages.harness import Context


def unread(context: Context) -> set[str]:
    """Parameters that a stage declares and did not read: a change of one would rerun it for nothing."""
    return set(context.stage.params) - context.reads
