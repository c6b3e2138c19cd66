"""The judge accepts what the documentation allows of owners, and refuses what it rules out."""

from typing import Any

from tests.history.history import Step
from tests.history.story import LOGOUT, Story

ENTER: Step = ["regenerate", True, "u1"]
END_ALL: Step = ["end", "u1", False]
END_OTHERS: Step = ["end", "u1", True]
LIST: Step = ["list", "u1"]
OURS: dict[str, Any] = {"data": {}, "owner": "u1"}


def two_devices() -> Story:
    """Log two browsers of u1 in: their cookies are c1 and c2, and their keys k1 and k2."""
    story = Story()
    for cookie in ("c1", "c2"):
        story.call(None, ENTER, given=cookie)
    return story


def read(story: Story, cookie: str, **more: Any) -> None:
    story.call(cookie, **{**OURS, "key": cookie.replace("c", "k"), **more})


# --- whose session it is


def test_a_session_belongs_to_who_logged_in() -> None:
    story = two_devices()
    read(story, "c1")
    assert story.rules() == set()

    read(story, "c1", owner=None)
    assert story.rules() == {"owner"}


def test_a_session_from_before_a_login_belongs_to_nobody() -> None:
    story = Story()
    story.begin()
    story.call("c1", ENTER, given="c2", data={"first": "t0"})
    story.call("c2", data={"first": "t0"}, owner="u1")
    assert story.rules() == set()

    story.call(None, ["set", "a", "t1"], given="c3")
    story.call("c3", data={"a": "t1"}, owner="u1")
    assert story.rules() == {"owner"}


# --- ending all sessions


def test_all_sessions_of_an_owner_are_over_after_they_were_ended() -> None:
    story = two_devices()
    story.call("c1", END_ALL, ended=2, **OURS)
    story.gone("c1")
    story.gone("c2")
    assert story.rules() == set()

    read(story, "c2")
    assert story.rules() == {"logout"}


def test_the_session_that_is_to_stay_stays() -> None:
    story = two_devices()
    story.call("c1", END_OTHERS, ended=1, **OURS)
    read(story, "c1")
    story.gone("c2")
    assert story.rules() == set()

    story.gone("c1")
    assert story.rules() == {"alive"}


def test_a_login_at_the_same_moment_may_stay_or_go() -> None:
    for stays in (True, False):
        story = Story()
        story.call(None, ENTER, given="c1", at=(10, 20))
        story.call(None, END_ALL, ended=0, at=(11, 12))
        if stays:
            read(story, "c1")
        else:
            story.gone("c1")
        assert story.rules() == set()


def test_an_ending_without_an_answer_may_come_at_any_time() -> None:
    story = two_devices()
    story.call("c1", END_ALL, at=(10, None))
    read(story, "c2", at=(20, 21))
    story.gone("c2", at=(30, 31))
    assert story.rules() == set()


def test_sessions_of_nobody_and_of_others_are_not_ended() -> None:
    story = two_devices()
    story.call(None, ["regenerate", True, "u2"], given="c3")
    story.call("c1", END_ALL, ended=2, **OURS)
    story.gone("c3")
    assert story.rules() == {"alive"}


# --- the index


def test_a_list_shows_every_session_that_lives() -> None:
    story = two_devices()
    story.call("c1", LIST, shown=["k1", "k2"], key="k1", **OURS)
    read(story, "c2")
    assert story.rules() == set()

    story.call("c1", LIST, shown=["k1"], key="k1", **OURS)
    assert story.rules() == set(), "c2 may have ended by now"
    read(story, "c2")
    assert story.rules() == {"index"}


def test_a_list_does_not_show_what_has_ended() -> None:
    story = two_devices()
    read(story, "c2")
    story.call("c2", LOGOUT, key="k2", **OURS)
    story.call("c1", LIST, shown=["k1"], key="k1", **OURS)
    assert story.rules() == set()

    story.call("c1", LIST, shown=["k1", "k2"], key="k1", **OURS)
    assert story.rules() == {"index"}


def test_a_list_may_show_a_session_whose_id_is_changing_under_either_id() -> None:
    story = two_devices()
    read(story, "c2")
    story.call("c2", ["regenerate", False], given="c3", key="k2", at=(20, 30), **OURS)
    story.call("c1", LIST, shown=["k1"], key="k1", at=(21, 22), **OURS)
    read(story, "c2", at=(31, 32))
    assert story.rules() == set()
