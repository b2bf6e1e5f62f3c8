"""The eight steps, one file each; alphabetical order is run order.

Each has `look(ctx)`, which asks the world whether the step is already done and returns its result
or None, and `act(ctx)`, which does it and returns its result. No step imports another: what one
needs of an earlier one it reads from the journal.
"""
