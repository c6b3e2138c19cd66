"""The contract catches storages that are broken on purpose: a named test must fail for each of them."""

import ast
import inspect
import textwrap

import pytest

from aiohttp_session_store import SessionDestroyedError
from aiohttp_session_store.testing import ManualClock, StorageContract
from aiohttp_session_store.testing.contract import locks as contract_locks
from aiohttp_session_store.testing.contract import watches as contract_watches
from aiohttp_session_store.testing.contract.accounts import AccountContract
from aiohttp_session_store.testing.contract.old_ids import OldIdContract
from aiohttp_session_store.testing.contract.owners import OwnerContract
from aiohttp_session_store.testing.contract.places import PlaceContract
from aiohttp_session_store.testing.contract.sessions import SessionContract
from tests.storages import broken, broken_endings, broken_locks, broken_owners, broken_walks, broken_watches
from tests.storages.plain import PlainStorage

BITES: list[tuple[type[PlainStorage], str]] = [
    (broken.FetchThatLeavesItsAnswer, "test_a_cancelled_fetch_leaves_its_answer_to_nobody_else"),
    (broken.FetchThatRaises, "test_a_key_that_was_never_inserted_is_none"),
    (broken.ReplaceThatCreates, "test_replacing_never_creates"),
    (broken.ReplaceThatCreates, "test_a_session_whose_record_is_gone_does_not_come_back"),
    (broken.ReplaceAtAnyVersion, "test_replacing_at_another_version_changes_nothing"),
    (broken.ReplaceAtAnyVersion, "test_of_racing_replaces_exactly_one_wins"),
    (broken.ReplaceAtAnyVersion, "test_logout_is_final_against_a_slow_writer"),
    (broken.ReplaceAtAnyVersion, "test_parallel_saves_of_different_keys_all_survive"),
    (broken.ReplaceAtAnyVersion, "test_regenerate_true_makes_the_old_id_worthless_at_once"),
    (broken.ReplaceThatKeepsTheExpiry, "test_replacing_at_the_version_overwrites"),
    (broken.ReplaceThatChecksThenActs, "test_of_racing_replaces_exactly_one_wins"),
    (broken.ReplaceThatChecksThenActs, "test_a_replace_that_races_a_delete_never_brings_the_record_back"),
    (broken.ReplaceThatWritesInPlace, "test_a_cancelled_write_leaves_the_old_record_or_the_new_one"),
    (broken.ReplaceThatRefusesTheExpired, "test_an_expired_record_stays_until_it_may_be_reclaimed"),
    (broken.InsertThatOverwrites, "test_inserting_an_existing_key_gives_none_and_changes_nothing"),
    (broken.InsertThatChecksThenActs, "test_of_racing_inserts_exactly_one_wins"),
    (broken.WritersThatShareABuffer, "test_racing_writers_of_different_keys_do_not_meet"),
    (broken.WritersThatShareABuffer, "test_parallel_sessions_do_not_mix"),
    (broken.ExpiryOfFortyBits, "test_a_record_with_the_longest_timeout_is_kept"),
    (broken.TouchThatShortens, "test_touching_never_shortens"),
    (broken.TouchAtAnyVersion, "test_touching_at_another_version_changes_nothing"),
    (broken.TouchAtAnyVersion, "test_of_two_saves_of_one_key_the_last_stands"),
    (broken.TouchThatMustExtend, "test_touching_with_the_expiry_that_stands_is_no_failure"),
    (broken.TouchThatChecksThenActs, "test_of_racing_touches_the_latest_expiry_stands"),
    (broken.TouchThatRefusesTheExpired, "test_an_expired_record_can_be_touched_until_it_may_be_reclaimed"),
    (broken.TouchThatCreates, "test_touching_never_creates"),
    (broken.TouchThatRewrites, "test_touching_extends_and_keeps_data_and_version"),
    (broken.TouchThatRewrites, "test_reading_keeps_a_session_alive_without_rewriting_it"),
    (broken.TouchThatDoesNothing, "test_touching_extends_and_keeps_data_and_version"),
    (broken.TouchThatDoesNothing, "test_reading_keeps_a_session_alive_without_rewriting_it"),
    (broken.TouchThatWritesBackWhatItRead, "test_a_touch_that_races_a_replace_undoes_nothing"),
    (broken.TouchThatWritesBackWhatItRead, "test_a_touch_that_races_a_delete_never_brings_the_record_back"),
    (broken_endings.DeleteThatRaises, "test_deleting_what_is_not_there_is_no_error"),
    (broken_endings.DeleteThatDoesNothing, "test_a_deleted_record_is_gone_and_no_other"),
    (broken_endings.DeleteThatDoesNothing, "test_a_deleted_key_can_be_inserted_again"),
    (broken_endings.DeleteThatDoesNothing, "test_a_rotation_after_a_logout_leaves_nothing_under_its_new_id"),
    (broken_endings.DeleteThatTakesAll, "test_a_deleted_record_is_gone_and_no_other"),
    (broken_endings.DeleteThatSaysNothing, "test_deleting_says_that_no_record_is_left"),
    (broken_endings.DeleteThatTakesNoVersion, "test_deleting_at_the_version_removes"),
    (broken_endings.DeleteAtAnyVersion, "test_deleting_at_another_version_changes_nothing"),
    (broken_endings.DeleteAtAnyVersion, "test_of_racing_writes_and_deletions_at_one_version_exactly_one_wins"),
    (broken_endings.DeleteThatNeedsARecord, "test_deleting_at_a_version_what_is_not_there_counts_as_removed"),
    (broken_endings.DeleteThatChecksThenActs, "test_of_racing_writes_and_deletions_at_one_version_exactly_one_wins"),
    (broken_endings.RetireAtAnyVersion, "test_retiring_at_another_version_changes_nothing"),
    (broken_endings.RetireAtAnyVersion, "test_of_racing_writes_and_retirements_exactly_one_wins"),
    (broken_endings.RetireAtAnyVersion, "test_logout_is_final_in_a_race"),
    (broken_endings.RetireThatCreates, "test_retiring_never_creates"),
    (broken_endings.RetireThatKeepsTheVersion, "test_retiring_at_the_version_overwrites"),
    (broken_endings.RetireThatKeepsTheVersion, "test_logout_is_final_against_a_slow_writer"),
    (broken_endings.RetireThatChecksThenActs, "test_of_racing_writes_and_retirements_exactly_one_wins"),
    (broken.OneVersionForAll, "test_each_write_has_a_version_of_its_own"),
    (broken.VersionsFromTheData, "test_each_write_has_a_version_of_its_own"),
    (broken.VersionsThatCountFromOne, "test_each_write_has_a_version_of_its_own"),
    (broken.LiveObjects, "test_what_was_fetched_stays_as_it_was"),
    (broken.LiveSessions, "test_a_flash_is_read_by_one_later_request"),
    (broken.LiveSessions, "test_regenerate_false_leaves_the_old_id_readable_as_it_was_for_a_while"),
    (broken.LiveSessions, "test_logout_is_final_against_a_slow_writer"),
    (broken.DataAsText, "test_any_bytes_come_back_unchanged"),
    (broken.DataThatIsStripped, "test_any_bytes_come_back_unchanged"),
    (broken.DataThatMayBeNothing, "test_any_bytes_come_back_unchanged"),
    (broken.DataThatIsTruncated, "test_a_large_record_comes_back_whole"),
    (broken.ExpiryThatIsForgotten, "test_what_was_inserted_is_fetched"),
    (broken.ExpiryThatIsForgotten, "test_a_session_ends_when_it_is_not_used"),
    (broken.FetchThatHidesTheExpired, "test_an_expired_record_stays_until_it_may_be_reclaimed"),
    (broken.SuspendsButDeniesIt, "test_a_cancelled_save_is_finished"),
    (broken.SweepThatChecksThenActs, "test_a_touch_that_races_the_sweep_saves_the_record_or_says_that_it_is_gone"),
    (broken.SweepThatOverlooksAReplace, "test_a_replace_that_races_the_sweep_saves_the_record_or_says_that_it_is_gone"),
    (broken.SweepOfOneSlice, "test_the_sweep_removes_all_of_many"),
    (broken.SweepThatChecksThenActs, "test_sweeps_at_once_count_each_record_once"),
    (broken.SweepThatKeepsItsMarkWhenCancelled, "test_a_cancelled_sweep_is_completed_by_the_next"),
    (broken.SweepThatRemovesAll, "test_the_sweep_keeps_what_is_alive"),
    (broken.SweepWithoutMargin, "test_the_sweep_keeps_what_has_only_just_expired"),
    (broken.SweepByTheFirstExpiry, "test_the_sweep_keeps_what_was_extended"),
    (broken.SweepThatDoesNothing, "test_the_sweep_removes_what_expired_long_ago_and_counts_it"),
    (broken.SweepThatDoesNotCount, "test_the_sweep_removes_what_expired_long_ago_and_counts_it"),
    (broken_locks.LockThatLetsAllIn, "test_a_lock_has_one_holder_at_a_time"),
    (broken_locks.LockThatLetsAllIn, "test_a_counter_under_the_lock_is_exact"),
    (broken_locks.LockThatRefuses, "test_a_storage_has_locks_or_refuses_them"),
    (broken_locks.OneLockForAll, "test_different_keys_do_not_wait_for_each_other"),
    (broken_locks.LockOfTheRecord, "test_a_lock_needs_no_record"),
    (broken_locks.LockThatGoesWithTheRecord, "test_a_lock_outlives_its_record"),
    (broken_locks.LockThatStopsWriters, "test_the_lock_holds_up_no_reader_and_no_writer"),
    (broken_locks.WaitersThatUseUpThePool, "test_those_who_wait_hold_up_nobody_else"),
    (broken_locks.LockForOneUse, "test_a_lock_can_be_had_again_and_again"),
    (broken_locks.LockThatAnExceptionKeeps, "test_an_exception_frees_the_lock"),
    (broken_locks.LockThatIgnoresCancellation, "test_waiting_for_the_lock_can_be_cancelled"),
    (broken_locks.LockWhoseAnswerIsLost, "test_a_lock_whose_taker_is_cancelled_is_free"),
    (broken_locks.LeaseThatIsOverAtOnce, "test_the_lease_stands_while_the_lock_is_held"),
    (broken_locks.LeaseThatNeverEnds, "test_a_lease_ends_with_its_lock"),
    (broken_owners.LinkThatShowsAKeyTwice, "test_a_linked_key_is_shown_until_it_is_unlinked"),
    (broken_owners.UnlinkThatDoesNothing, "test_a_linked_key_is_shown_until_it_is_unlinked"),
    (broken_owners.UnlinkForAllOwners, "test_a_linked_key_is_shown_until_it_is_unlinked"),
    (broken_owners.OneIndexForAll, "test_a_linked_key_is_shown_until_it_is_unlinked"),
    (broken_owners.LinkThatWritesBackWhatItRead, "test_parallel_links_and_unlinks_lose_nothing"),
    (broken_owners.LinkThatWritesBackWhatItRead, "test_of_many_logins_at_once_exactly_as_many_live_as_may"),
    (broken_watches.FetchManyThatLeavesSomeOut, "test_many_records_are_fetched_at_once"),
    (broken_watches.FetchManyThatMakesUpRecords, "test_many_records_are_fetched_at_once"),
    (broken_watches.VersionsThatAreRemembered, "test_the_versions_are_those_of_the_records"),
    (broken_watches.VersionsOfTheFirstWrite, "test_an_end_is_noticed_without_any_announcement"),
    (broken_watches.VersionsOfTheirOwn, "test_the_versions_are_those_of_the_records"),
    (broken_watches.AnnounceThatDoesNothing, "test_what_is_announced_is_heard_by_all"),
    (broken_watches.AnnounceThatDoesNothing, "test_who_stops_listening_holds_nothing_up"),
    (broken_watches.AnnounceThatDoesNothing, "test_a_watched_session_is_told_of_its_end"),
    (broken_watches.AnnounceToOne, "test_what_is_announced_is_heard_by_all"),
    (broken_watches.AnnounceWithoutTheReason, "test_what_is_announced_is_heard_by_all"),
    (broken_watches.AnnouncementsThatBeginInSilence, "test_what_is_announced_is_heard_by_all"),
    (broken_watches.AnnouncementsThatWaitForEverybody, "test_who_stops_listening_holds_nothing_up"),
    (broken_walks.WalkOfOnePart, "test_a_walk_finds_every_record"),
    (broken_walks.WalkInOneGo, "test_a_walk_finds_every_record"),
    (broken_walks.WalkOverTheIndex, "test_a_walk_finds_every_record"),
    (broken_walks.WalkByPosition, "test_a_walk_finds_what_is_changed_meanwhile"),
    (broken_walks.WalkThatHoldsTheStorage, "test_a_walk_can_be_left"),
    (broken_walks.RewriteThatShortens, "test_rewriting_keeps_the_expiry"),
    (broken_walks.RewriteAtAnyVersion, "test_rewriting_at_another_version_changes_nothing"),
    (broken_walks.RewriteInTwoSteps, "test_a_rewrite_that_races_a_touch_keeps_the_later_expiry"),
    (broken_locks.SetAsideThatDoesNothing, "test_a_record_that_is_set_aside_is_gone"),
    (broken_locks.SetAsideThatDeletes, "test_setting_aside_spares_what_was_written_since"),
    (broken_locks.CloseForAll, "test_a_storage_works_until_the_last_app_has_closed_it"),
    (broken_locks.CloseForAll, "test_a_storage_that_was_closed_can_be_started_again"),
    (broken_locks.CloseThatWaitsForNobody, "test_closing_finishes_the_saves_that_are_under_way"),
]


async def run(storage_type: type[PlainStorage], name: str) -> None:
    """Run one test of the contract on a new storage."""
    clock = ManualClock()
    method = getattr(StorageContract(), name)
    given = {"clock": clock, "storage": storage_type(clock=clock)}
    await method(**{parameter: given[parameter] for parameter in inspect.signature(method).parameters})


@pytest.mark.parametrize(("storage_type", "name"), BITES)
async def test_a_broken_storage_is_caught(
    storage_type: type[PlainStorage], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract_locks, "PATIENCE", 0.3)  # no network here
    await run(PlainStorage, name)
    monkeypatch.setattr(contract_watches, "PATIENCE", 0.3)
    with pytest.raises((AssertionError, KeyError, SessionDestroyedError, TimeoutError)):
        await run(storage_type, name)


def test_every_failure_of_the_contract_says_what_was_expected() -> None:
    """pytest explains a failed assert only in test modules, so every assert of the contract needs a message."""
    for name in dir(StorageContract):
        if name.startswith("test_"):
            source = textwrap.dedent(inspect.getsource(getattr(StorageContract, name)))
            asserts = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
            assert asserts
            assert all(node.msg is not None for node in asserts), name


def test_every_test_of_the_verbs_locks_and_upkeep_catches_a_broken_storage() -> None:
    """The tests that use sessions are left out: they also test the core, and catch the same faults as the others."""
    tests = {name for name in dir(StorageContract) if name.startswith("test_")}
    tests -= {*dir(SessionContract), *dir(OldIdContract), *dir(PlaceContract), *dir(AccountContract)}
    tests -= {name for name in dir(OwnerContract) if "link" not in name}
    assert tests - {name for _, name in BITES} == set()
