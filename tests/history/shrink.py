"""Shrinks a failing history to the few calls that matter, and prints them."""

from tests.history.history import Call, History
from tests.history.judge import Verdict, judge
from tests.history.lines import lines_of


def shrink(history: History, verdict: Verdict) -> History:
    """Return a history of as few calls as possible in which *verdict* still stands.

    Calls are taken out, half of them at first, as long as the judge says the same of the same calls.  A call that stays
    is one without which the verdict would be another: it created the session, changed its id, wrote what was read.
    """
    kept = _concerned(history, verdict)
    kept = kept if _stands(history.with_calls(kept), verdict) else list(history.calls)
    size = max(1, len(kept) // 2)
    while True:
        at, before = 0, len(kept)
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            if _stands(history.with_calls(fewer), verdict):
                kept = fewer
            else:
                at += size
        if size == 1 and len(kept) == before:
            return history.with_calls(kept)
        size = max(1, size // 2)


def _concerned(history: History, verdict: Verdict) -> list[Call]:
    """Return the calls that had to do with the sessions of the calls that show it."""
    _, of, _ = lines_of(history)
    shown = [call for call in history.calls if call.number in verdict.calls]
    lines = {of.get(cookie) for call in shown for cookie in (call.cookie, call.given) if cookie} - {None}
    return [
        call for call in history.calls if call in shown or {of.get(call.cookie or ""), of.get(call.given or "")} & lines
    ]


def _stands(history: History, verdict: Verdict) -> bool:
    if not set(verdict.calls) <= {call.number for call in history.calls}:
        return False
    return any(found.rule == verdict.rule and found.calls == verdict.calls for found in judge(history))


def describe(verdict: Verdict, history: History) -> str:
    """Return a table of a shrunk history."""
    lines = [f"{verdict.rule}: {verdict.text}"]
    lines += [f"  {'*' if call.number in verdict.calls else ' '} {describe_call(call)}" for call in history.calls]
    return "\n".join(lines)


def describe_call(call: Call) -> str:
    """Return a line about a call."""
    did = " ".join(" ".join(map(str, step)) + ";" for step in call.steps) or "read"
    how = " exclusive" * call.exclusive + f" (ends as {call.end})" * (call.end != "ok")
    if call.answered is None:
        answer = "no answer"
    else:
        parts = [f"{call.answered:.3f} s: {call.status}"]
        parts += [f"stored: {call.stored}"] * bool(call.stored) + [call.error] * bool(call.error)
        parts += ["no session"] * bool(call.new) + [f"saved {call.saved}"] * bool(call.saved)
        parts += [f"read {call.data}"] * bool(call.data)
        parts += [f"gave {call.given or 'an empty cookie'}"] * (call.given is not None)
        answer = ", ".join(parts)
    who = f"#{call.number} {call.sent:.3f} s, worker {call.worker}, {call.kind} with {call.cookie or 'no cookie'}"
    return f"{who}: {did}{how} -> {answer}"
