"""Formats of dates, as ``strptime`` takes them: which of them the cells of a column have."""

from __future__ import annotations

import re
from itertools import product

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"


def _names(months: str) -> dict[str, str]:
    whole = [month for month in _MONTHS.split("|") if month[:3] in months]
    return {"%b": f"(?i:{'|'.join(month[:3] for month in whole)})", "%B": f"(?i:{'|'.join(whole)})"}


_DIRECTIVES = {
    "%Y": r"\d{4}",
    "%y": r"\d\d",
    "%m": r"(?:0?[1-9]|1[0-2])",
    "%d": r"(?:0?[1-9]|[12]\d|3[01])",
    "%j": r"(?:00[1-9]|0[1-9]\d|[12]\d\d|3[0-5]\d|36[0-5])",
    **_names(_MONTHS),
    "%H": r"(?:[01]?\d|2[0-3])",
    "%I": r"(?:0?[1-9]|1[0-2])",
    "%M": r"[0-5]\d",
    "%S": r"[0-5]\d",
    "%p": r"(?i:[ap]m)",
    "%z": r"[+-]\d\d:?\d\d",
}
"""Regular expressions of the parts of a date."""

_LEAP = r"(?:0[48]|[2468][048]|[13579][26])"
_REAL: tuple[dict[str, str], ...] = (
    {"%d": r"(?:0?[1-9]|1\d|2[0-8])"},
    {"%d": "(?:29|30)", "%m": "(?:0?[13-9]|1[0-2])", **_names("JanMarAprMayJunJulAugSepOctNovDec")},
    {"%d": "31", "%m": "(?:0?[13578]|1[02])", **_names("JanMarMayJulAugOctDec")},
    {"%d": "29", "%m": "0?2", **_names("Feb"), "%j": "366", "%y": f"(?:00|{_LEAP})"}
    | {"%Y": rf"(?:\d\d{_LEAP}|(?:00|{_LEAP})00)"},
)
"""Patterns in their place: for days of every month, for days that some months lack, for 29 February and day 366."""

_SHORTHANDS = {"%F": "%Y-%m-%d", "%D": "%m/%d/%y", "%T": "%H:%M:%S", "%R": "%H:%M", "%e": "%d", "%h": "%b"}

_DAYS = (
    *(f"%Y{mark}%m{mark}%d" for mark in "-/."),
    *(day.replace("/", mark) for mark in "/.-" for day in ("%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y")),
    *(f"%d{mark}{month}{mark}{year}" for month in ("%b", "%B") for mark in " -" for year in ("%Y", "%y")),
    *(f"{month} %d{mark}%Y" for month in ("%b", "%B") for mark in (" ", ", ")),
    "%Y%m%d",
)
_TIMES = ("", *(f"{mark}%H:%M{seconds}" for mark in " T" for seconds in ("", ":%S")))
_TIMES += (" %I:%M %p", " %I:%M:%S %p", " %I:%M%p", " %H:%M:%S %z", " %H:%M:%S UTC")

ISO = r"\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d([.,]\d+)?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?"
"""A regular expression of ISO 8601 with all its digits."""

FORMATS = (*map("".join, product(_DAYS, _TIMES)), "%Y-%m", "%b %Y", "%B %Y")
"""The formats that are known; ISO 8601 needs none."""


def pattern_of(form: str, *, real: bool = True) -> str:
    """Return a regular expression of the cells of a format, for Python and for Arrow.

    Args:
        form: The format.
        real: Whether the month of this year must have the day; else each has 31 days.

    Example:
        >>> bool(re.fullmatch(pattern_of("%d.%m.%Y"), "31.12.2021")), re.fullmatch(pattern_of("%m/%d/%Y"), "31/12/2021")
        (True, None)
    """
    parts = re.split("(%.)", re.sub("%[FDTReh]", lambda match: _SHORTHANDS[match[0]], form))
    alone = not any(parts[::2])  # digits alone: 2021111 is two dates, and what is not known could be any number
    known = [{**_DIRECTIVES, **directives} for directives in (_REAL if real else ({"%j": r"\d{3}"},))]
    patterns = (
        "".join(one.get(code, "[^0-9]" if alone else ".+") if code[:1] == "%" else re.escape(code) for code in parts)
        for one in known
    )
    pattern = f"(?:{'|'.join(dict.fromkeys(patterns))})".replace("\\ ", r"\s+")
    return pattern.replace("0?", "0").replace("[01]?", "[01]") if alone else pattern


def swap_day_and_month(form: str) -> str:
    """Return a format with the day in the place of the month; the same format where one of them has a name.

    Example:
        >>> swap_day_and_month("%m/%d/%Y"), swap_day_and_month("%d %b %Y")
        ('%d/%m/%Y', '%d %b %Y')
    """
    both = "%m" in form and "%d" in form
    return re.sub("%[md]", lambda match: "%d" if match[0] == "%m" else "%m", form) if both else form


def formats_of(cell: str) -> tuple[str, ...]:
    """Return the known formats that a cell has.

    Example:
        >>> formats_of("1/11/2012 3:05 PM"), formats_of("2012/01/11")
        (('%m/%d/%Y %I:%M %p', '%d/%m/%Y %I:%M %p'), ('%Y/%m/%d',))
    """
    return tuple(form for form in FORMATS if re.fullmatch(pattern_of(form), cell))
