"""Every error of Hospitium, as one tree.

A message says, in this order: where, what was found against what was expected, what state things
are in now, and what to do next. Each class has a stable code with a page ``docs/errors/CODE.md``.
"""

from __future__ import annotations

from collections.abc import Sequence


class HospitiumError(Exception):
    """Anything that Hospitium says went wrong; its text is written for the person who must act."""

    code = "E001"
    exit_status = 1


class UsageError(HospitiumError):
    """A command or a function was called in a way that it does not understand."""

    code = "E002"
    exit_status = 2


class InterruptedRunError(HospitiumError):
    """A person or the system asked the command to stop; what was committed is kept."""

    code = "E003"
    exit_status = 130


# --- what was agreed -------------------------------------------------------------------------


class PlanError(HospitiumError):
    """A plan file cannot be used as it is; every problem found is listed at once."""

    code = "E101"
    exit_status = 3

    def __init__(self, problems: Sequence[str], *, where: str = "plan") -> None:
        self.problems = tuple(problems)
        self.where = where
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            f"{where}: {count} found. Nothing was started.\n{listed}\n"
            "Mend the lines named here, then run `hospitium plan check` again."
        )


class PluginError(HospitiumError):
    """A researcher's plug-in file cannot be loaded, or registers a name that is taken."""

    code = "E102"


# --- the rounds ------------------------------------------------------------------------------


class QuorumError(HospitiumError):
    """Too few sites gave a usable update: the round is not closed and the model is unchanged."""

    code = "E201"
    exit_status = 4


class UpdateError(HospitiumError):
    """An update was refused by the input gate; nothing of it was added.

    Args:
        reason: One of ``hospitium.wire.gate.REASONS``: a closed list, safe to count and to show.
        message: Figures and names of params only; never content.
    """

    code = "E202"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class SiteError(HospitiumError):
    """A site could not answer a task.

    Args:
        public: Text that may travel to the coordinator: no path, tag, identifier or traceback.
        detail: What helps the site's own staff; it stays in the site's own log.
    """

    code = "E203"

    def __init__(self, public: str, *, detail: str = "") -> None:
        self.public = public
        self.detail = detail
        super().__init__(public)


class EngineError(HospitiumError):
    """The engine cannot reach any site, or was used after it was closed."""

    code = "E204"


class HubError(HospitiumError):
    """The hub refused a request or cannot be reached; what was to be sent is kept.

    Args:
        reason: One word that stays the same: ``signature``, ``challenge``, ``not_found``, ...
        message: What was found, and what to do.
        status: The HTTP status that goes with it; 0 where there was no answer.
        retry_after_s: How long the hub asks to wait before the next try; 0 for no wish.
    """

    code = "E205"

    def __init__(
        self, reason: str, message: str, *, status: int = 0, retry_after_s: float = 0.0
    ) -> None:
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(message)


class HeldError(HospitiumError):
    """A round waits until a person has decided about an update that was held."""

    code = "E206"
    exit_status = 4


# --- state on disk ---------------------------------------------------------------------------


class StateConflictError(HospitiumError):
    """Someone else changed the state first, or a finished thing was to be changed."""

    code = "E301"


class StorageError(HospitiumError):
    """The disk refused: full, read-only, or gone. What was committed before is intact."""

    code = "E302"


class CorruptedError(HospitiumError):
    """Stored bytes are not the bytes that were written."""

    code = "E303"


class VersionError(HospitiumError):
    """A plan, message or database was written by a version that this one cannot read."""

    code = "E304"


class UnknownRunError(HospitiumError):
    """There is no run of this name in the home folder."""

    code = "E305"
    exit_status = 2


class RunBusyError(HospitiumError):
    """Another process is working on this run."""

    code = "E306"


# --- data at a site --------------------------------------------------------------------------


class DataError(HospitiumError):
    """A data source cannot give training cases. The text may name files: it stays at the site."""

    code = "E401"


class PartitionError(HospitiumError):
    """Cases cannot be shared out over simulated sites as asked."""

    code = "E402"


class ReaderError(HospitiumError):
    """A site's reader gives other numbers than the others' for the same bytes: it may not join."""

    code = "E403"
    exit_status = 3


class PacsError(HospitiumError):
    """The PACS cannot be reached, refused, or broke off; what was fetched whole is kept."""

    code = "E410"


# --- who is who, and who agreed to what ------------------------------------------------------


class TrustError(HospitiumError):
    """A statement about who is who, or who agreed to what, cannot be relied upon.

    Args:
        reason: One of ``hospitium.wire.statement.TRUST_REASONS``: a closed list.
        message: Names of sites and federations, epochs and counts; never a key or a token.
    """

    code = "E501"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class KeyFileError(HospitiumError):
    """A key file is missing, open to others, or made for another purpose. Its text stays here."""

    code = "E502"


class PolicyError(HospitiumError):
    """A site's policy file cannot be used as it is; every problem found is listed at once."""

    code = "E503"
    exit_status = 3

    def __init__(self, problems: Sequence[str], *, where: str = "policy") -> None:
        self.problems = tuple(problems)
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            f"{where}: {count} found. Until it is mended this site answers no task.\n{listed}\n"
            "Mend the lines named here, then run `hospitium site status` again."
        )


ALL_ERRORS: tuple[type[HospitiumError], ...] = (
    HospitiumError,
    UsageError,
    InterruptedRunError,
    PlanError,
    PluginError,
    QuorumError,
    UpdateError,
    SiteError,
    EngineError,
    HubError,
    HeldError,
    StateConflictError,
    StorageError,
    CorruptedError,
    VersionError,
    UnknownRunError,
    RunBusyError,
    DataError,
    PartitionError,
    ReaderError,
    PacsError,
    TrustError,
    KeyFileError,
    PolicyError,
)
