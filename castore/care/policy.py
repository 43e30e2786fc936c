"""What a collection keeps, and for how long where nothing else was said; loads no library."""

from __future__ import annotations

from castore.errors import InvalidInputError
from castore.frozen import frozen

DAY_S = 24 * 3600
GRACE_S, GRACE_MIN_S = 14 * DAY_S, 3600
KEEP_LOG_S = 90 * DAY_S
KEEP_RECORDS_S = 30 * DAY_S


@frozen
class Policy:
    """What a collection keeps; all in seconds by the clock of the store.

    Attributes:
        grace_s: Objects stored or renewed within this time stay, whatever names them. Longer than the longest run.
        keep_log_s: What a name meant stays for this time after it was moved or removed.
        keep_records_s: Records of units, imports, packings and writes that were not used for this time are removed;
            younger ones keep what they name.
    """

    grace_s: float = GRACE_S
    keep_log_s: float = KEEP_LOG_S
    keep_records_s: float = KEEP_RECORDS_S

    def check(self, *, force: bool) -> None:
        """Refuse what is unsafe beside writers.

        Raises:
            InvalidInputError: A period is negative, or so short that a run under way could lose objects.
        """
        if min(self.grace_s, self.keep_log_s, self.keep_records_s) < 0:
            raise InvalidInputError("a period cannot be negative")
        if not force and self.grace_s < GRACE_MIN_S:
            raise InvalidInputError(
                f"a grace under {GRACE_MIN_S} s takes objects from runs under way: give --force if there are none"
            )
        if not force and self.keep_log_s < self.grace_s:
            raise InvalidInputError(
                "logs must be kept as long as the grace period: a dataset whose name is removed while it gets another "
                "would be lost; give --force if nobody does that"
            )
