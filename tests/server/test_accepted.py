"""`Accept` as RFC 9110 reads it: the most exact range decides, then the weight, then our own order."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from sync_server.api.accepted import accepted
from sync_server.errors import Problem

OFFERED = ("application/json", "text/csv", "application/x-table")


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("text/csv;header=present", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv, application/json", "application/json"),
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/csv;q=0.5, */*;q=0.1", "text/csv"),
        ("application/json;q=0, */*", "text/csv"),
        ("application/*, text/csv;q=0.9", "application/json"),
        ("text/html, application/x-table;q=0.001", "application/x-table"),
        ("text/csv ; q = 0.8 , application/json;q=0.9", "application/json"),
        ("no media type at all", "application/json"),
    ],
)
def test_the_caller_gets_what_it_likes_best(said: str | None, chosen: str) -> None:
    headers = {} if said is None else {"Accept": said}
    assert accepted(make_mocked_request("GET", "/", headers), OFFERED) == chosen


@pytest.mark.parametrize("said", ["image/png", "text/html, image/*", "*/*;q=0", "text/csv;q=0"])
def test_who_takes_none_of_them_is_told_what_there_is(said: str) -> None:
    with pytest.raises(Problem, match=r"not_acceptable: .*text/csv"):
        accepted(make_mocked_request("GET", "/", {"Accept": said}), OFFERED)
