"""The date in training data: fixed, given, and the same words everywhere."""

from __future__ import annotations

import datetime
import locale
import subprocess
import sys

import pytest

from castore.errors import InvalidInputError
from castore.ingest.clock import date_text, parse_date, written

MOMENT = datetime.datetime(2026, 3, 5, 7, 8, 9)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%d %b %Y", "05 Mar 2026"),
        ("%-d %B %Y", "5 March 2026"),
        ("%A, %a", "Thursday, Thu"),
        ("%F %T", "2026-03-05 07:08:09"),
        ("%c", "Thu Mar  5 07:08:09 2026"),
        ("%x %X %r", "03/05/26 07:08:09 07:08:09 AM"),
        ("%_d|%^b|%e|%-m|%-H|%I%p|%l|%k", " 5|MAR| 5|3|7|07AM| 7| 7"),
        ("%j %U %W %V %G %u %w %y %C", "064 09 09 10 2026 4 4 26 20"),
        ("100%% %Z%z.", "100% ."),
        ("%Ey %Od", "26 05"),
        ("", ""),
    ],
)
def test_as_the_c_locale_writes(pattern: str, text: str) -> None:
    assert written(MOMENT, pattern) == text


@pytest.mark.parametrize("pattern", ["%d %b %Y", "%A %B %p", "%c", "%x", "%X", "%r", "%D %h %n", "%-d %e %j"])
def test_as_this_machine_writes_in_the_c_locale(pattern: str) -> None:
    assert locale.setlocale(locale.LC_TIME) in ("C", "POSIX", "C.UTF-8", "en_US.UTF-8")
    assert written(MOMENT, pattern) == MOMENT.strftime(pattern)


def test_no_zone_and_no_locale_has_a_say() -> None:
    code = (
        "import locale, datetime; from castore.ingest.clock import *\n"
        "try: locale.setlocale(locale.LC_ALL, '')\nexcept locale.Error: pass\n"
        "print(written(parse_date('2026-12-01'), '%A %d %B %H:%M %p %c'))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"TZ": zone, "LC_ALL": name, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for zone, name in (("UTC", "C"), ("Asia/Tokyo", "de_DE.UTF-8"), ("America/Lima", "fr_FR.UTF-8"))
    }  # fmt: skip
    assert said == {"Tuesday 01 December 00:00 AM Tue Dec  1 00:00:00 2026\n"}


@pytest.mark.parametrize("pattern", ["%s", "%Q", "%+"])
def test_what_depends_on_the_machine_is_refused(pattern: str) -> None:
    if pattern == "%+":
        assert written(MOMENT, pattern) == "%+"  # no directive, and no letter: text
        return
    with pytest.raises(ValueError, match="no directive"):
        written(MOMENT, pattern)


@pytest.mark.parametrize("text", ["2026-12-01", "2026-12-01T09:30:00"])
def test_dates_there_and_back(text: str) -> None:
    assert date_text(parse_date(text)) == text


@pytest.mark.parametrize(
    "text", ["", "today", "2026-13-01", "2026-12-1", "2026-12-01 09:30", "٢٠٢٦-12-01", "2026-12-01T25:00:00"]
)
def test_other_texts_are_no_dates(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is no date: give YYYY-MM-DD"):
        parse_date(text)
