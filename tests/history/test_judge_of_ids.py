"""The judge accepts what the documentation allows, and refuses what it rules out: endings, ids and streams."""

from typing import Any

from tests.history.story import LOGIN, LOGOUT, RENEW, SET_A, Story

# --- endings


def test_after_a_logout_the_session_is_gone_under_all_ids() -> None:
    for cookie in ("c1", "c2"):
        story = Story()
        story.begin()
        story.call("c1", RENEW, given="c2")
        story.call("c1", LOGOUT, given="")
        story.gone(cookie)
        assert story.rules() == set()

        story.read(cookie, first="t0")
        assert story.rules() == {"logout"}


def test_a_request_that_began_before_the_answer_to_a_logout_may_read() -> None:
    story = Story()
    story.begin()
    story.call("c1", LOGOUT, at=(10, 20), given="")
    story.read(at=(19, 30), first="t0")
    assert story.rules() == set()


def test_an_end_needs_an_explanation() -> None:
    story = Story()
    story.begin()
    story.gone()
    assert story.rules() == {"alive"}

    story = Story()
    story.begin()
    story.call("c1", LOGOUT, at=(10, None))
    story.gone(at=(20, 21))
    assert story.rules() == set()


def test_a_login_makes_the_old_id_worthless() -> None:
    story = Story()
    story.begin()
    story.call("c1", LOGIN, given="c2")
    story.gone("c1")
    story.read("c2", first="t0")
    assert story.rules() == set()

    story.read("c1", first="t0")
    assert story.rules() == {"logout"}


def test_a_new_session_ends_the_one_before() -> None:
    story = Story()
    story.begin()
    story.call("c1", ["new"], SET_A, given="c2")
    story.gone("c1")
    story.read("c2", a="t1")
    assert story.rules() == set()

    story.read("c1", first="t0")
    assert story.rules() == {"logout"}


def test_a_failed_new_session_ends_nothing() -> None:
    story = Story()
    story.begin()
    story.call("c1", ["new"], SET_A, status=500, end="crash")
    story.gone("c1")
    assert story.rules() == {"alive"}


def test_a_cookie_is_sent_only_where_one_is_due() -> None:
    story = Story()
    story.begin()
    story.call("c1", given="c2")
    assert story.rules() == {"cookies"}

    story = Story()
    story.call(None, SET_A)
    assert story.rules() == {"cookies"}


def test_a_request_that_was_told_that_its_session_ended_ends_nothing_more() -> None:
    """A login in another tab came first: what the old id does afterwards is not meant for the new session."""
    story = Story()
    story.begin()
    story.call("c1", LOGIN, given="c2", at=(10, 20))
    story.call("c1", ["save"], ["new"], SET_A, given="c3", at=(11, 21), saved=[False])
    story.read("c2", first="t0")
    assert story.rules() == set()


# --- another id


def test_a_renewed_id_reads_the_session_as_it_was() -> None:
    story = Story()
    story.begin()
    story.call("c1", RENEW, given="c2")
    story.call("c2", SET_A, data={"first": "t0"})
    story.read("c1", first="t0")
    story.read("c2", first="t0", a="t1")
    assert story.rules() == set()

    story.read("c1", first="t0", a="t1")
    assert story.rules() == {"snapshot"}


def test_a_renewed_id_does_not_read_what_the_renewal_wrote() -> None:
    story = Story()
    story.begin()
    story.call("c1", SET_A, RENEW, given="c2")
    story.read("c1", first="t0", a="t1")
    assert story.rules() == {"snapshot"}


def test_what_is_written_under_a_renewed_id_reaches_the_session() -> None:
    story = Story()
    story.begin()
    story.call("c1", RENEW, given="c2")
    story.call("c1", SET_A, data={"first": "t0"})
    story.read("c2", first="t0", a="t1")
    assert story.rules() == set()

    story.read("c2", first="t0")
    assert story.rules() == {"read"}


def test_a_renewed_id_ends_after_the_grace() -> None:
    story = Story(grace=10)
    story.begin()
    story.call("c1", RENEW, given="c2", at=(10, 11))
    story.gone("c1", at=(30, 31))
    assert story.rules() == set()

    story = Story(grace=60)
    story.begin()
    story.call("c1", RENEW, given="c2", at=(10, 11))
    story.gone("c1", at=(30, 31))
    assert story.rules() == {"alive"}


def test_a_login_by_a_renewed_id_drops_what_was_written_since() -> None:
    story = Story()
    story.begin()
    story.call("c1", RENEW, given="c2")
    story.call("c2", SET_A, data={"first": "t0"})
    story.call("c1", LOGIN, given="c3")
    story.read("c3", first="t0")
    story.gone("c2")
    assert story.rules() == set()

    story.read("c3", first="t0", a="t1")
    assert story.rules() == {"snapshot"}


def test_what_is_written_by_the_old_id_during_a_login_may_be_dropped() -> None:
    readings: list[dict[str, Any]] = [{"first": "t0"}, {"first": "t0", "a": "t1"}]
    for data in readings:
        story = Story()
        story.begin()
        story.call("c1", LOGIN, at=(10, 20), given="c2")
        story.call("c1", SET_A, at=(11, 19), data={"first": "t0"})
        story.read("c2", **data)
        assert story.rules() == set()


# --- streams


def test_a_stream_is_told_that_its_session_ended() -> None:
    story = Story()
    story.begin()
    story.message(SET_A, saved=True)
    story.call("c1", LOGOUT, given="", data={"first": "t0", "a": "t1"})
    story.message(saved=False)
    assert story.rules() == set()

    story.message(saved=True)
    assert story.rules() == {"stream"}


def test_a_stream_goes_on_after_a_renewal_however_much_later() -> None:
    story = Story(grace=1)
    story.begin()
    story.call("c1", RENEW, given="c2", at=(10, 11))
    story.call("c1", SET_A, kind="message", data=None, new=None, saved=[True], at=(100, 101))
    story.read("c2", at=(102, 103), first="t0", a="t1")
    assert story.rules() == set()

    story.read("c2", at=(104, 105), first="t0")
    assert story.rules() == {"read"}

    story = Story(grace=1)
    story.begin()
    story.call("c1", RENEW, given="c2", at=(10, 11))
    story.call("c1", kind="message", data=None, new=None, saved=[False], at=(100, 101))
    assert story.rules() == {"alive"}
