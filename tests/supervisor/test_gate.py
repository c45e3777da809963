"""The gate, case by case: what is a jump, and what is not."""

import pytest

from emperor.supervisor.gate import Record, fall

CALM = Record(1000, 10, 0, 3600.0)
BAD_BEFORE = Record(1000, 300, 6, 60.0)
NOBODY = Record()


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (
            CALM,
            Record(10, 5, 0, 5),
            "5 of its 10 answers were 5xx (50%); of the generation before 10 of 1000 (1%)",
        ),
        (NOBODY, Record(10, 10, 0, 5), "10 of its 10 answers were 5xx (100%)"),
        (CALM, Record(9, 9, 0, 5), ""),  # too few to tell
        (CALM, Record(1000, 4, 0, 5), ""),
        (CALM, Record(1000, 60, 0, 5), ""),  # exactly five points above
        (CALM, Record(1000, 61, 0, 5), "61 of its 1000"),
        (BAD_BEFORE, Record(100, 60, 0, 5), ""),  # twice as bad, and no more
        (BAD_BEFORE, Record(100, 61, 0, 5), "61 of its 100"),
        (BAD_BEFORE, Record(1000, 320, 0, 5), ""),  # it had been as bad before
        (CALM, Record(0, 0, 2, 5), ""),
        (CALM, Record(0, 0, 3, 5), "3 of its workers died in 5 s; of the generation before 0 in 3600 s"),
        (NOBODY, Record(0, 0, 3, 5), "3 of its workers died"),
        (BAD_BEFORE, Record(0, 0, 3, 20), ""),  # one in ten seconds, as before
        (BAD_BEFORE, Record(0, 0, 7, 20), "7 of its workers died"),
        (CALM, Record(100_000, 1000, 0, 30), ""),
        (NOBODY, NOBODY, ""),
    ],
)
def test_what_falls_and_why(before: Record, now: Record, said: str) -> None:
    told = fall(before, now)
    assert (said in told) if said else told == ""
