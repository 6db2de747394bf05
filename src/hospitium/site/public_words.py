"""The closed list of what a site says of a task that it did not answer; no error's own text.

The text of an exception may hold a name, a path or a number of somebody. So what travels is one of
these sentences, a code of Hospitium, or the name of one of Python's own exceptions. All else, from
wherever it comes, becomes `OTHER`; the site's own staff find it in ``site.log``.
"""

from __future__ import annotations

import builtins

from hospitium.errors import ALL_ERRORS
from hospitium.site.consent import REFUSALS

OTHER = "the site failed"

FAILURES = (
    "there are no training cases",
    "training diverged: the loss is not finite",
    "training diverged: the loss exploded",
    "training diverged: the params are not finite",
    "the plug-in file is not the one of the plan",
    "the params that came are not those of the plan's model",
    "the site did not answer in time",
    "the site's training died: its process ended before it answered",
    "the site's training answered what cannot be read",
    "egress refused an update that does not have the shape of the model",
    "egress refused a metric sum that is not on its list",
    "egress refused an update above the bound that the task sets",
    "egress refused an answer that is not of its form",
    "egress refused an answer to something else than the task",
    "egress refused a file too many or too few",
    "egress refused a heartbeat that is too large",
    "egress refused what is no suppressed fingerprint",
    "egress refused a message of a kind or size that does not leave",
    "egress refused words that are not on their list",
    "egress refused an entry that is not of its form",
    OTHER,
)
"""What went wrong at the site. `REFUSALS` are what it did not agree to."""


def closed(words: str) -> str:
    """Return words as they may travel: unchanged if they are on the list, else `OTHER`.

    Example:
        >>> closed("there are no training cases"), closed("no cases of Anna Meier")
        ('there are no training cases', 'the site failed')
    """
    return words if words in _ALL else OTHER


def failed_with(error: BaseException) -> str:
    """Return what is told of an exception that nobody expected: its nearest built-in class.

    Libraries have classes of their own for a lack of memory; that is what a centre can act on.
    """
    if "OutOfMemory" in type(error).__name__:
        return f"{OTHER} ({MemoryError.__name__})"
    name = next(kind.__name__ for kind in type(error).__mro__ if kind in _BUILT_IN)
    return f"{OTHER} ({name})"


_BUILT_IN = [
    value
    for value in vars(builtins).values()
    if isinstance(value, type) and issubclass(value, BaseException)
]
_ALL = frozenset(
    [
        *REFUSALS.values(),
        *FAILURES,
        *(f"{OTHER} with {error.code}" for error in ALL_ERRORS),
        *(f"{OTHER} ({kind.__name__})" for kind in _BUILT_IN),
    ]
)
