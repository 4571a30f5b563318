"""The root of every operating error.

Operating errors are expected, typed and handled; each part derives its own from `AnycastleError`. A broken
invariant is an assertion and stops the process: it never derives from this class.
"""


class AnycastleError(Exception):
    """Something outside the program is not as it must be; `str(error)` is one clear line for an operator."""
