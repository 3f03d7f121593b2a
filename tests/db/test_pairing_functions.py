"""The functions and triggers of pairings and sessions, asked as any program asks: one winner, whoever meets whom."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from hadir.db.queries import sql as query
from hadir.dev.embedded import EmbeddedPostgres
from hadir.realtime.session import Event
from tests.conftest import fresh_database
from tests.db.bazaar import PAYMENT_S, SESSION_S, Bazaar
from tests.db.world import Step, another, blocked, overlapping

# accept


async def test_the_first_to_accept_wins_a_session_that_waits_for_its_payment(bazaar: Bazaar) -> None:
    winner, loser = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(winner, loser)
    won = await bazaar.accepted(pairing, winner)
    assert (won["result"], won["moved"], won["decided"]) == ("won", [winner], True)
    session, row = await bazaar.session_row(won["session_id"]), await bazaar.pairing_row(pairing)
    assert (session["mitra_id"], session["customer_id"]) == (winner, row["customer_id"])
    assert session["status"] == "pending_payment"
    assert session["payment_due_at"] - session["created_at"] == pytest.approx(timedelta(seconds=PAYMENT_S), abs=BLINK)
    assert (row["status"], row["mitra_id"], row["session_id"]) == ("accepted", winner, session["id"])
    assert row["decided_at"] is not None
    assert await bazaar.offers(pairing) == {winner: "accepted", loser: "taken"}
    assert await bazaar.open_sessions(winner) == 1


async def test_the_winners_retry_wins_the_same_and_changes_nothing(bazaar: Bazaar) -> None:
    winner, loser = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(winner, loser)
    first = await bazaar.accepted(pairing, winner)
    before = await bazaar.pairing_row(pairing)
    again = await bazaar.accepted(pairing, winner)
    assert (again["result"], again["session_id"]) == ("won", first["session_id"])
    assert (again["moved"], again["decided"]) == ([], False)
    assert await bazaar.accept(pairing, loser) == "taken"
    assert await bazaar.pairing_row(pairing) == before
    assert await bazaar.sql.fetchval("SELECT count(*) FROM chat_sessions") == 1


async def test_a_winner_whose_session_is_over_still_hears_that_it_won(bazaar: Bazaar) -> None:
    winner = await bazaar.ready()
    pairing = await bazaar.pairing(winner)
    session = (await bazaar.accepted(pairing, winner))["session_id"]
    await bazaar.happens(session, Event.END)
    assert await bazaar.accept(pairing, winner) == "won"


async def test_an_answer_in_the_five_seconds_after_the_shown_deadline_counts(bazaar: Bazaar) -> None:
    mitra = await bazaar.ready()
    pairing = await bazaar.pairing(mitra)
    await bazaar.past_deadline(pairing, 3.0)
    assert await bazaar.expire() == [], "nor has it expired"
    assert await bazaar.accept(pairing, mitra) == "won"


async def test_an_answer_after_that_finds_it_expired_and_expires_it(bazaar: Bazaar) -> None:
    late, other = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(late, other)
    await bazaar.past_deadline(pairing)
    answer = await bazaar.accepted(pairing, late)
    assert (answer["result"], answer["decided"], answer["moved"]) == ("expired", True, [])
    assert await bazaar.status(pairing) == "expired"
    assert await bazaar.offers(pairing) == {late: "expired", other: "expired"}
    again = await bazaar.accepted(pairing, other)
    assert (again["result"], again["decided"]) == ("expired", False)


async def test_a_busy_mitra_keeps_its_offer_and_wins_once_it_has_room(bazaar: Bazaar) -> None:
    mitra = await bazaar.ready()
    first, second = await bazaar.pairing(mitra), await bazaar.pairing(mitra)
    session = (await bazaar.accepted(first, mitra))["session_id"]
    assert await bazaar.accept(second, mitra) == "busy"
    assert await bazaar.offers(second) == {mitra: "open"}
    assert await bazaar.happens(session, Event.END) == ("done", "cancelled")
    assert await bazaar.accept(second, mitra) == "won"


async def test_nobody_wins_what_was_not_offered_or_is_no_longer(bazaar: Bazaar) -> None:
    mitra, stranger, tired = await bazaar.ready(), await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(mitra, tired)
    assert await bazaar.accept(pairing, stranger) == "withdrawn"
    assert await bazaar.decline(pairing, tired) == "declined"
    assert await bazaar.accept(pairing, tired) == "withdrawn"
    await bazaar.cancel(pairing)
    assert await bazaar.accept(pairing, mitra) == "withdrawn"
    assert await bazaar.accept(str(uuid.uuid4()), mitra) == "withdrawn"
    assert await bazaar.accept(pairing, str(uuid.uuid4())) == "withdrawn"
    assert not await bazaar.sql.fetchval("SELECT count(*) FROM chat_sessions")


async def test_who_declined_hears_withdrawn_even_when_another_has_won(bazaar: Bazaar) -> None:
    winner, tired = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(winner, tired)
    await bazaar.decline(pairing, tired)
    await bazaar.accept(pairing, winner)
    assert await bazaar.accept(pairing, tired) == "withdrawn"


async def test_a_suspect_or_offline_mitras_answer_counts_and_begins_its_grace_anew(bazaar: Bazaar) -> None:
    suspect, offline = await bazaar.ready(), await bazaar.ready()
    mine, theirs = await bazaar.pairing(suspect), await bazaar.pairing(offline)
    long_ago = "suspect_since = now() - interval '1 hour'"
    before = await bazaar.vouched(suspect, "lost", long_ago)
    await bazaar.vouched(offline, "goodbye", "is_online = false")
    assert (await bazaar.accept(mine, suspect), await bazaar.accept(theirs, offline)) == ("won", "won")
    after = await bazaar.row(suspect)
    assert after["suspect_since"] - before["suspect_since"] > timedelta(minutes=59)
    assert (after["is_online"], after["reason"]) == (True, "lost")
    assert (await bazaar.row(offline))["is_online"] is False


# decline


async def test_declining_says_what_had_been_decided_before(bazaar: Bazaar) -> None:
    mitra, other = await bazaar.ready(max_sessions=9), await bazaar.ready(max_sessions=9)
    pairing = await bazaar.pairing(mitra, other)
    assert [await bazaar.decline(pairing, mitra) for _ in range(2)] == ["declined", "declined"]
    assert await bazaar.offers(pairing) == {mitra: "declined", other: "open"}
    assert await bazaar.status(pairing) == "searching"
    await bazaar.accept(pairing, other)
    assert (await bazaar.decline(pairing, other), await bazaar.decline(pairing, mitra)) == ("won", "declined")
    taken, expired, cancelled = [await bazaar.pairing(mitra, other) for _ in range(3)]
    await bazaar.accept(taken, other)
    await bazaar.past_deadline(expired)
    await bazaar.expire()
    await bazaar.cancel(cancelled)
    answers = [await bazaar.decline(each, mitra) for each in (taken, expired, cancelled, str(uuid.uuid4()))]
    assert answers == ["taken", "expired", "withdrawn", "withdrawn"]


# offers close with their pairing, whoever decides it


@pytest.mark.parametrize(("decided", "closed"), [("expired", "expired"), ("cancelled", "cancelled")])
async def test_another_programs_decision_closes_the_open_offers(bazaar: Bazaar, decided: str, closed: str) -> None:
    mitra, tired = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(mitra, tired)
    await bazaar.decline(pairing, tired)
    await bazaar.sql.execute("UPDATE pairings SET status = $2 WHERE id = $1", pairing, decided)
    assert await bazaar.offers(pairing) == {mitra: closed, tired: "declined"}
    row = await bazaar.pairing_row(pairing)
    assert row["decided_at"] is not None
    assert row["next_wave_at"] is None


async def test_a_mitra_taken_out_of_service_has_no_open_offers(bazaar: Bazaar) -> None:
    mitra, other = await bazaar.ready(), await bazaar.ready()
    open_, declined = await bazaar.pairing(mitra, other), await bazaar.pairing(mitra)
    await bazaar.decline(declined, mitra)
    await bazaar.deactivate(mitra)
    assert await bazaar.offers(open_) == {mitra: "withdrawn", other: "open"}
    assert await bazaar.offers(declined) == {mitra: "declined"}
    assert await bazaar.accept(open_, mitra) == "withdrawn"
    assert await bazaar.accept(open_, other) == "won"


async def test_an_inactive_mitra_wins_nothing_even_with_an_open_offer(bazaar: Bazaar) -> None:
    mitra = await bazaar.ready()
    pairing = await bazaar.pairing(mitra)
    await bazaar.deactivate(mitra)
    await bazaar.sql.execute("UPDATE pairing_offers SET status = 'open'")
    assert await bazaar.accept(pairing, mitra) == "withdrawn"


# two at once, in both orders


async def test_of_two_who_accept_at_once_the_first_wins_and_the_other_hears_taken(
    bazaar: Bazaar, database: str
) -> None:
    a, b = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(a, b)
    answers = await overlapping(database, partial(bazaar.accept, pairing, a), partial(bazaar.accept, pairing, b))
    assert answers == ("won", "taken")
    assert (await bazaar.open_sessions(a), await bazaar.open_sessions(b)) == (1, 0)


async def test_one_mitra_that_accepts_twice_at_once_wins_one_session(bazaar: Bazaar, database: str) -> None:
    mitra = await bazaar.ready(max_sessions=9)
    pairing = await bazaar.pairing(mitra)
    accept = partial(bazaar.accepted, pairing, mitra)
    first, second = await overlapping(database, accept, accept)
    assert (first["result"], first["session_id"]) == (second["result"], second["session_id"])
    assert await bazaar.open_sessions(mitra) == 1


async def test_one_mitra_that_accepts_two_at_once_wins_as_many_as_it_has_room_for(
    bazaar: Bazaar, database: str
) -> None:
    mitra = await bazaar.ready()
    one, two = await bazaar.pairing(mitra), await bazaar.pairing(mitra)
    answers = await overlapping(database, partial(bazaar.accept, one, mitra), partial(bazaar.accept, two, mitra))
    assert answers == ("won", "busy")


async def test_an_accept_and_a_cancel_have_one_outcome(bazaar: Bazaar, database: str) -> None:
    mitra = await bazaar.ready(max_sessions=9)
    pairing = await bazaar.pairing(mitra)
    answers = await overlapping(database, partial(bazaar.accept, pairing, mitra), partial(bazaar.cancel, pairing))
    assert (*answers, await bazaar.status(pairing)) == ("won", False, "accepted")
    pairing = await bazaar.pairing(mitra)
    cancelled, answer = await overlapping(
        database, partial(bazaar.cancel, pairing), partial(bazaar.accept, pairing, mitra)
    )
    assert (cancelled, answer, await bazaar.status(pairing)) == (True, "withdrawn", "cancelled")
    assert await bazaar.open_sessions(mitra) == 1


async def test_an_accept_and_the_expiry_have_one_outcome(bazaar: Bazaar, database: str) -> None:
    mitra = await bazaar.ready(max_sessions=9)
    pairing = await bazaar.pairing(mitra)

    async def just_in_time(sql: asyncpg.Connection) -> str:
        answer = await bazaar.accept(pairing, mitra, sql)
        await sql.execute("UPDATE pairings SET expires_at = now() - interval '1 hour' WHERE id = $1", pairing)
        return answer

    async def expire(sql: asyncpg.Connection) -> list[str]:
        return await bazaar.expire(sql)

    assert await overlapping(database, just_in_time, expire, waits=False) == ("won", [])
    assert await bazaar.expire() == []
    pairing = await bazaar.pairing(mitra)
    await bazaar.past_deadline(pairing)
    expired, answer = await overlapping(database, expire, partial(bazaar.accept, pairing, mitra))
    assert (expired, answer, await bazaar.status(pairing)) == ([pairing], "expired", "expired")


async def test_two_instances_expire_a_pairing_once(bazaar: Bazaar, database: str) -> None:
    pairing = await bazaar.pairing()
    await bazaar.past_deadline(pairing)
    both = await overlapping(database, bazaar.expire, bazaar.expire, waits=False)
    assert both == ([pairing], [])


async def test_an_accept_and_a_decline_have_one_outcome(bazaar: Bazaar, database: str) -> None:
    mitra, other = await bazaar.ready(max_sessions=9), await bazaar.ready()
    pairing = await bazaar.pairing(mitra)
    accept, decline = partial(bazaar.accept, pairing, mitra), partial(bazaar.decline, pairing, mitra)
    assert await overlapping(database, accept, decline) == ("won", "won")
    pairing = await bazaar.pairing(mitra)
    accept, decline = partial(bazaar.accept, pairing, mitra), partial(bazaar.decline, pairing, mitra)
    assert await overlapping(database, decline, accept) == ("declined", "withdrawn")
    assert await bazaar.status(pairing) == "searching"
    pairing = await bazaar.pairing(mitra, other)
    accept, decline = partial(bazaar.accept, pairing, mitra), partial(bazaar.decline, pairing, other)
    assert await overlapping(database, accept, decline) == ("won", "taken")


async def test_an_accept_and_a_deactivation_have_one_outcome(bazaar: Bazaar, database: str) -> None:
    mitra, other = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing(mitra, other)
    answer, _ = await overlapping(database, partial(bazaar.accept, pairing, mitra), partial(bazaar.deactivate, mitra))
    assert (answer, await bazaar.offers(pairing)) == ("won", {mitra: "accepted", other: "taken"})
    assert await bazaar.open_sessions(mitra) == 1, "its running session is the operator's to deal with"
    pairing = await bazaar.pairing(other)
    _, answer = await overlapping(database, partial(bazaar.deactivate, other), partial(bazaar.accept, pairing, other))
    assert (answer, await bazaar.offers(pairing)) == ("withdrawn", {other: "withdrawn"})


async def test_a_reroutes_accept_and_the_sessions_end_have_one_outcome(bazaar: Bazaar, database: str) -> None:
    has, gets = await bazaar.ready(max_sessions=9), await bazaar.ready(max_sessions=9)
    session = await bazaar.won(has, status="active")
    _, pairing = await bazaar.reroute(session)
    await bazaar.wave(pairing, [gets])
    answers = await overlapping(
        database, partial(bazaar.accept, pairing, gets), partial(bazaar.happens, session, Event.END)
    )
    assert answers == ("won", ("done", "ended"))
    assert (await bazaar.session_row(session))["mitra_id"] == gets
    assert (await bazaar.open_sessions(has), await bazaar.open_sessions(gets)) == (0, 0)

    session = await bazaar.won(has, status="active")
    _, pairing = await bazaar.reroute(session)
    await bazaar.wave(pairing, [gets])
    end, answer = await overlapping(
        database, partial(bazaar.happens, session, Event.END), partial(bazaar.accept, pairing, gets)
    )
    assert (end, answer, await bazaar.status(pairing)) == (("done", "ended"), "withdrawn", "cancelled")
    assert await bazaar.offers(pairing) == {gets: "cancelled"}
    assert (await bazaar.session_row(session))["mitra_id"] == has


async def test_a_reroute_and_the_sessions_end_have_one_outcome(bazaar: Bazaar, database: str) -> None:
    session = await bazaar.won(status="active")
    (outcome, pairing), end = await overlapping(
        database, partial(reroute, bazaar, session), partial(bazaar.happens, session, Event.END)
    )
    assert (outcome, end) == ("created", ("done", "ended"))
    assert await bazaar.status(pairing) == "cancelled"
    session = await bazaar.won(status="active")
    end, (outcome, nothing) = await overlapping(
        database, partial(bazaar.happens, session, Event.END), partial(reroute, bazaar, session)
    )
    assert (end, outcome, nothing) == (("done", "ended"), "ended", None)


@pytest.mark.usefixtures("patient")
async def test_a_payment_and_its_timeout_have_one_outcome(bazaar: Bazaar, database: str) -> None:
    session = await bazaar.won()
    await bazaar.too_late_to_pay(session)
    paid, due = await overlapping(database, partial(pay, bazaar, session), bazaar.due, waits=False)
    assert (paid, due) == (("paid", True), [])
    session = await bazaar.won()
    await bazaar.too_late_to_pay(session)
    due, paid = await overlapping(database, bazaar.due, partial(pay, bazaar, session))
    assert (due, paid) == ([session], ("refund_due", False))
    assert (await bazaar.session_row(session))["status"] == "expired"


async def test_two_instances_end_what_is_due_once(bazaar: Bazaar, database: str) -> None:
    sessions = [await bazaar.won() for _ in range(3)]
    for session in sessions:
        await bazaar.too_late_to_pay(session)
    first, second = await overlapping(database, bazaar.due, bazaar.due, waits=False)
    assert (sorted(first), second) == (sorted(sessions), [])


async def test_whose_row_somebody_holds_keeps_no_other_session_from_its_end(bazaar: Bazaar, database: str) -> None:
    held, free = [await bazaar.won() for _ in range(2)]
    for session in (held, free):
        await bazaar.too_late_to_pay(session)
    async with another(database) as holder, holder.transaction():
        await holder.execute(
            "SELECT FROM mitra_presence WHERE mitra_id = (SELECT mitra_id FROM chat_sessions WHERE id = $1) FOR UPDATE",
            held,
        )
        assert await bazaar.due() == [free]
    assert await bazaar.due() == [held]


async def test_no_presence_is_kept_waiting_by_a_session_that_somebody_holds(bazaar: Bazaar, database: str) -> None:
    session = await bazaar.won()
    mitra = str((await bazaar.session_row(session))["mitra_id"])
    async with another(database) as holder, another(database) as other, holder.transaction():
        await holder.execute("SELECT FROM chat_sessions WHERE id = $1 FOR NO KEY UPDATE", session)
        gone = "UPDATE mitra_presence SET is_online = false WHERE mitra_id = $1"
        await asyncio.wait_for(other.execute(gone, mitra), 5)


async def test_what_a_deactivation_left_open_the_next_wave_withdraws(bazaar: Bazaar, database: str) -> None:
    mitra = await bazaar.ready()
    pairing = await bazaar.pairing(mitra)
    async with another(database) as holder, holder.transaction():
        await holder.execute("SELECT FROM pairings WHERE id = $1 FOR UPDATE", pairing)
        await bazaar.deactivate(mitra)
    assert await bazaar.offers(pairing) == {mitra: "open"}
    await bazaar.sql.execute("UPDATE pairings SET next_wave_at = now()")
    await bazaar.wave(pairing, [])
    assert await bazaar.offers(pairing) == {mitra: "withdrawn"}


async def test_nobody_is_offered_what_is_past_the_deadline_that_is_shown(bazaar: Bazaar) -> None:
    await bazaar.pairing()
    await bazaar.sql.execute("UPDATE pairings SET next_wave_at = now()")
    assert len(await bazaar.sql.fetch(query("pairings_next"), 20)) == 1
    await bazaar.sql.execute("UPDATE pairings SET expires_at = now()")
    assert await bazaar.sql.fetch(query("pairings_next"), 20) == []


async def test_pairings_that_somebody_holds_keep_no_other_from_its_wave(bazaar: Bazaar, database: str) -> None:
    held, free = [await bazaar.pairing() for _ in range(2)]
    await bazaar.sql.execute("UPDATE pairings SET next_wave_at = now()")
    await bazaar.sql.execute("UPDATE pairings SET next_wave_at = now() - interval '1 minute' WHERE id = $1", held)
    async with another(database) as holder, holder.transaction():
        await holder.execute("SELECT FROM pairings WHERE id = $1 FOR UPDATE", held)
        assert [each["id"] for each in await bazaar.sql.fetch(query("pairings_next"), 1)] == [free]


async def test_a_search_for_a_session_that_is_deleted_is_over(bazaar: Bazaar) -> None:
    session = await bazaar.won(status="active")
    _, pairing = await bazaar.reroute(session)
    await bazaar.sql.execute("DELETE FROM chat_sessions WHERE id = $1", session)
    assert await bazaar.status(pairing) == "cancelled"


async def test_every_statement_gives_up_before_its_client_and_leaves_nothing_waiting(
    bazaar: Bazaar, database: str
) -> None:
    accepting, ending, paying, *others = [await bazaar.ready() for _ in range(7)]
    pairings = [await bazaar.pairing(each) for each in (accepting, *others)]
    accepts, over, declined, cancelled, waves = pairings
    ends, pays = await bazaar.won(ending), await bazaar.won(paying)
    talks, goes_on = [await bazaar.won(status="active") for _ in range(2)]
    sender, customer = (await bazaar.session_row(talks))["customer_id"], await bazaar.customer()
    await bazaar.past_deadline(over)
    steps: dict[str, Step] = {
        "accept": partial(bazaar.accept, accepts, accepting),
        "end": partial(bazaar.happens, ends, Event.END),
        "pay": partial(pay, bazaar, pays),
        "decline": partial(bazaar.decline, declined, others[1]),
        "cancel": partial(bazaar.cancel, cancelled),
        "expire": bazaar.expire,
        "create": lambda sql: bazaar.create(customer, sql=sql),
        "reroute": lambda sql: bazaar.reroute(goes_on, sql=sql),
        "send": lambda sql: sql.fetchrow(query("chat_send"), str(uuid.uuid4()), talks, sender, "1", "Halo"),
        "wave": lambda sql: bazaar.waves({waves: 2}, others, sql=sql),
    }
    async with another(database) as holder, AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(another(database)) for _ in steps]
        async with holder.transaction():
            for table, name, held in (
                ("mitra_presence", "mitra_id", [accepting, ending, paying]),
                ("pairing_offers", "pairing_id", [over]),
                ("pairings", "id", [declined, cancelled]),
                ("chat_sessions", "id", [talks, goes_on]),
            ):
                await holder.execute(f"SELECT FROM {table} WHERE {name} = ANY ($1::uuid[]) FOR UPDATE", held)
            await holder.execute("SELECT pg_advisory_xact_lock(7230015448411)")
            await bazaar.create(customer, sql=holder)
            begun = [step(sql) for step, sql in zip(steps.values(), connections, strict=True)]
            answers = await asyncio.gather(*begun, return_exceptions=True)
    gave_up = dict.fromkeys(steps, asyncpg.LockNotAvailableError)
    assert dict(zip(steps, map(type, answers), strict=True)) == gave_up


async def test_no_session_ends_by_itself_while_an_event_about_it_waits(bazaar: Bazaar) -> None:
    session = await bazaar.won()
    await bazaar.too_late_to_pay(session)
    stored = "INSERT INTO webhook_events (source, body, session_id) VALUES ('xendit', '{}', $1)"
    await bazaar.sql.execute(stored, session)
    assert await bazaar.due() == []
    await bazaar.sql.execute("UPDATE webhook_events SET processed_at = now()")
    assert await bazaar.due() == [session]


async def test_a_mitra_whom_another_program_holds_is_left_out_of_a_wave_that_goes_to_all_others(
    bazaar: Bazaar, database: str
) -> None:
    held, free = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing()
    async with another(database) as holder, holder.transaction():
        await holder.execute("SELECT FROM mitras WHERE id = $1 FOR UPDATE", held)
        await bazaar.wave(pairing, [held, free])
        assert set(await bazaar.offers(pairing)) == {free}


async def test_two_who_end_a_session_at_once_end_it_once(bazaar: Bazaar, database: str) -> None:
    session = await bazaar.won(status="active")
    end = partial(bazaar.happens, session, Event.END)
    assert await overlapping(database, end, end) == (("done", "ended"), ("refused", "ended"))


# nobody waits in a circle


@pytest.mark.usefixtures("patient")
async def test_a_deactivation_waits_for_nobody_who_is_deciding_a_pairing(bazaar: Bazaar, database: str) -> None:
    mitra, other = await bazaar.ready(), await bazaar.ready()
    first, second = [await bazaar.pairing() for _ in range(2)]
    for pairing in (second, first):
        await bazaar.wave(pairing, [mitra, other])
    await bazaar.sql.execute("UPDATE pairings SET expires_at = now() - interval '1 hour'")
    async with another(database) as holder, another(database) as one, another(database) as two:
        async with holder.transaction():
            # Whichever of them expiry closes last, it stops there.
            await holder.execute("SELECT FROM pairing_offers WHERE mitra_id = $1 FOR UPDATE", other)
            expiry = asyncio.create_task(bazaar.expire(one))
            await blocked(database)
            await asyncio.wait_for(bazaar.deactivate(mitra, two), 5)
        assert sorted(await expiry) == sorted([first, second])
    assert await bazaar.offers(first) == {mitra: "expired", other: "expired"}


async def test_a_reroutes_accept_locks_both_mitras_in_the_order_of_their_ids(bazaar: Bazaar, database: str) -> None:
    a, b = sorted([await bazaar.ready(max_sessions=9), await bazaar.ready(max_sessions=9)])
    pairings = {}
    for has, gets in ((a, b), (b, a)):
        _, pairing = await bazaar.reroute(await bazaar.won(has, status="active"))
        await bazaar.wave(pairing, [gets])
        pairings[gets] = pairing
    async with another(database) as holder, another(database) as one, another(database) as two:
        async with holder.transaction():
            await holder.execute("SELECT FROM mitra_presence WHERE mitra_id = $1 FOR UPDATE", a)
            accepts = [
                asyncio.create_task(bazaar.accept(pairings[b], b, one)),
                asyncio.create_task(bazaar.accept(pairings[a], a, two)),
            ]
            await blocked(database, 2)
            assert await bazaar.sql.fetch("SELECT FROM mitra_presence WHERE mitra_id = $1 FOR UPDATE NOWAIT", b)
        assert await asyncio.gather(*accepts) == ["won", "won"]


@pytest.mark.usefixtures("patient")
async def test_everything_at_once_on_the_same_few_never_deadlocks(bazaar: Bazaar, database: str) -> None:
    mitras = [await bazaar.ready(max_sessions=3) for _ in range(3)]
    sessions = [await bazaar.won(mitra, status="active") for mitra in mitras]
    pairings = [await bazaar.pairing(*mitras) for _ in range(4)]
    for session, mitra in zip(sessions, mitras, strict=True):
        _, pairing = await bazaar.reroute(session)
        await bazaar.wave(pairing, [each for each in mitras if each != mitra])
        pairings.append(pairing)

    async def actor(n: int) -> None:
        chance = random.Random(n)
        async with another(database) as sql:
            for _ in range(12):
                pairing, mitra, session = (chance.choice(each) for each in (pairings, mitras, sessions))
                match chance.randrange(7):
                    case 0 | 1:
                        await bazaar.accept(pairing, mitra, sql)
                    case 2:
                        await bazaar.decline(pairing, mitra, sql)
                    case 3:
                        await bazaar.happens(session, Event.END, sql)
                    case 4:
                        active = "UPDATE mitra_presence SET is_active = NOT is_active WHERE mitra_id = $1"
                        await sql.execute(active, mitra)
                    case 5:
                        await bazaar.pay(session, str(n), sql=sql)
                    case 6:
                        await bazaar.due(sql)
                        await bazaar.expire(sql)

    async with asyncio.timeout(20):
        await asyncio.gather(*(actor(n) for n in range(6)))  # a deadlock would raise
    assert not await bazaar.sql.fetchval("SELECT count(*) FROM mitra_presence WHERE open_sessions > max_sessions")


# waves


async def test_waves_follow_the_order_of_the_queue(bazaar: Bazaar) -> None:
    mitras = [await bazaar.ready() for _ in range(5)]
    random.shuffle(mitras)
    pairing = await bazaar.pairing()
    assert await bazaar.wave(pairing, mitras, size=2) == mitras[:2]
    assert await bazaar.wave(pairing, mitras, size=2) == mitras[2:4]
    assert await bazaar.wave(pairing, mitras, size=2) == mitras[4:]
    waves = dict(await bazaar.sql.fetch("SELECT mitra_id, wave FROM pairing_offers"))
    assert [waves[mitra] for mitra in mitras] == [1, 1, 2, 2, 3]


async def test_a_wave_is_made_when_it_is_due_and_not_before(bazaar: Bazaar) -> None:
    first, second = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing()
    (made,) = await bazaar.waves({pairing: 1}, [first], seconds=60)
    assert (made["mitras"], made["missing"]) == ([first], 49)
    assert made["first_offer_s"] >= 0
    assert await bazaar.waves({pairing: 2}, [second], seconds=60) == []
    assert await bazaar.sql.fetch(query("pairings_next"), 20) == []
    due_in = await bazaar.sql.fetchval("SELECT next_wave_at - clock_timestamp() FROM pairings")
    assert due_in == pytest.approx(timedelta(seconds=60), abs=BLINK)
    await bazaar.sql.execute("UPDATE pairings SET next_wave_at = clock_timestamp()")
    assert [(each["id"], each["wave"]) for each in await bazaar.sql.fetch(query("pairings_next"), 20)] == [(pairing, 2)]
    assert await bazaar.waves({pairing: 3}, [second]) == [], "nor is one left out"
    (made,) = await bazaar.waves({pairing: 2}, [first, second], seconds=60)
    assert (made["mitras"], made["first_offer_s"]) == ([second], None)


async def test_a_wave_is_topped_up_to_its_size_without_moving_the_next(bazaar: Bazaar) -> None:
    mitras = [await bazaar.ready() for _ in range(4)]
    pairing = await bazaar.pairing()
    (made,) = await bazaar.waves({pairing: 1}, mitras[:1], size=3, seconds=60)
    assert made["missing"] == 2
    next_wave_at = (await bazaar.pairing_row(pairing))["next_wave_at"]
    (made,) = await bazaar.waves({pairing: 1}, mitras, size=3, seconds=60)
    assert (made["mitras"], made["missing"]) == (mitras[1:3], 0)
    (made,) = await bazaar.waves({pairing: 1}, mitras, size=3, seconds=60)
    assert (made["mitras"], made["missing"]) == ([], 0)
    assert (await bazaar.pairing_row(pairing))["next_wave_at"] == next_wave_at


async def test_an_exhausted_pool_goes_on_being_searched(bazaar: Bazaar) -> None:
    pairing = await bazaar.pairing()
    assert [await bazaar.wave(pairing, []) for _ in range(3)] == [[], [], []]
    row = await bazaar.pairing_row(pairing)
    assert (row["status"], row["wave"]) == ("searching", 3)
    newcomer = await bazaar.ready()
    assert await bazaar.wave(pairing, [newcomer]) == [newcomer]


async def test_nobody_who_cannot_take_it_is_offered_it(bazaar: Bazaar) -> None:
    fit, offline, suspect, full, inactive = [await bazaar.ready() for _ in range(5)]
    await bazaar.vouched(offline, "goodbye", "is_online = false")
    await bazaar.vouched(suspect, "lost", "suspect_since = now()")
    await bazaar.session(full)
    await bazaar.deactivate(inactive)
    pairing = await bazaar.pairing()
    unknown = str(uuid.uuid4())
    assert await bazaar.wave(pairing, [offline, suspect, full, inactive, unknown, fit]) == [fit]


async def test_nobody_is_offered_to_themselves(bazaar: Bazaar) -> None:
    both, other = await bazaar.ready(), await bazaar.ready()
    await bazaar.sql.execute("INSERT INTO customers (id) VALUES ($1)", both)
    pairing = await bazaar.pairing(customer=both)
    assert await bazaar.wave(pairing, [both, other]) == [other]


async def test_a_pairing_has_at_most_so_many_offers(bazaar: Bazaar) -> None:
    mitras = [await bazaar.ready() for _ in range(5)]
    pairing = await bazaar.pairing()
    assert await bazaar.wave(pairing, mitras, size=2, max_offers=3) == mitras[:2]
    (made,) = await bazaar.waves({pairing: None}, mitras, size=2, max_offers=3)
    assert (made["mitras"], made["missing"]) == ([mitras[2]], 0)
    assert await bazaar.wave(pairing, mitras, size=2, max_offers=3) == []


async def test_a_mitra_has_at_most_so_many_open_offers(bazaar: Bazaar) -> None:
    mitra = await bazaar.ready()
    first, second, third = [await bazaar.pairing() for _ in range(3)]
    made = await bazaar.waves({first: 1, second: 1, third: 1}, [mitra], max_open=2)
    assert sum(len(each["mitras"]) for each in made) == 2, "also within one call"
    offered = [each["pairing_id"] for each in made if each["mitras"]]
    left = next(each for each in (first, second, third) if each not in offered)
    await bazaar.decline(offered[0], mitra)
    assert await bazaar.wave(left, [mitra], max_open=2) == [mitra], "a declined offer is not open"


@pytest.mark.usefixtures("patient")
async def test_limits_hold_for_two_waves_at_once(bazaar: Bazaar, database: str) -> None:
    mitras = [await bazaar.ready() for _ in range(3)]
    one, two = await bazaar.pairing(), await bazaar.pairing()

    async def wave(pairing: str, sql: asyncpg.Connection) -> list[str]:
        (made,) = await bazaar.waves({pairing: 1}, mitras, size=2, max_open=1, sql=sql)
        return list(made["mitras"])

    first, second = await overlapping(database, partial(wave, one), partial(wave, two))
    assert (first, second) == (mitras[:2], mitras[2:])
    again = await overlapping(database, partial(top_up, bazaar, one, mitras), partial(top_up, bazaar, one, mitras))
    assert again == (mitras[2:], []), "the same wave of one pairing is one wave"


async def test_a_pairing_that_is_being_decided_is_left_out_of_the_wave(bazaar: Bazaar, database: str) -> None:
    mitra, other = await bazaar.ready(), await bazaar.ready()
    decided, searching = await bazaar.pairing(mitra), await bazaar.pairing()

    async def wave(sql: asyncpg.Connection) -> list[str]:
        made = await bazaar.waves({decided: 2, searching: 1}, [other], sql=sql)
        return [each["pairing_id"] for each in made]

    answers = await overlapping(database, partial(bazaar.accept, decided, mitra), wave, waits=False)
    assert answers == ("won", [searching])


async def test_who_is_taken_out_of_service_while_a_wave_is_made_wins_nothing_by_it(
    bazaar: Bazaar, database: str
) -> None:
    mitra = await bazaar.ready()
    pairing = await bazaar.pairing()

    async def wave(sql: asyncpg.Connection) -> Any:
        return await bazaar.waves({pairing: 1}, [mitra], sql=sql)

    await overlapping(database, partial(bazaar.deactivate, mitra), wave, waits=False)
    assert await bazaar.accept(pairing, mitra) == "withdrawn"


# reroutes


async def test_a_reroute_hands_the_session_over_as_it_is(bazaar: Bazaar) -> None:
    has, gets = await bazaar.ready(), await bazaar.ready()
    session = await bazaar.won(has)
    await bazaar.pay(session)
    before = await bazaar.session_row(session)
    outcome, pairing = await bazaar.reroute(session)
    assert (outcome, (await bazaar.pairing_row(pairing))["session_id"]) == ("created", session)
    assert await bazaar.wave(pairing, [has, gets]) == [gets], "who has it is not asked"
    won = await bazaar.accepted(pairing, gets)
    assert (won["result"], won["session_id"], set(won["moved"])) == ("won", session, {has, gets})
    after = await bazaar.session_row(session)
    changed = {name for name in after.keys() if after[name] != before[name]}  # noqa: SIM118 (a Record)
    assert (changed, after["mitra_id"]) == ({"mitra_id", "version", "changed_at"}, gets)
    assert (await bazaar.open_sessions(has), await bazaar.open_sessions(gets)) == (0, 1)
    assert await bazaar.payments(session) == {"inv": "paid"}
    _, again = await bazaar.reroute(session)
    third = await bazaar.ready()
    assert await bazaar.wave(again, [has, gets, third]) == [third], "nor is anybody who had it"


async def test_a_reroute_says_what_is_in_its_way(bazaar: Bazaar) -> None:
    session = await bazaar.won(status="active")
    customer = (await bazaar.session_row(session))["customer_id"]
    assert (await bazaar.reroute(str(uuid.uuid4())))[0] == "unknown"
    assert (await bazaar.reroute(session, await bazaar.customer()))[0] == "unknown", "it is not theirs"
    _, searching = await bazaar.create(customer, "its second")
    assert await bazaar.reroute(session, customer) == ("searching", searching)
    await bazaar.cancel(searching)
    _, rerouting = await bazaar.reroute(session, customer)
    assert await bazaar.reroute(session) == ("same", rerouting)
    assert await bazaar.create(customer, "another key") == ("searching", rerouting)
    await bazaar.happens(session, Event.END)
    assert await bazaar.status(rerouting) == "cancelled"
    assert (await bazaar.reroute(session))[0] == "ended"


async def test_a_mitra_that_is_deactivated_keeps_its_session_which_can_be_rerouted(bazaar: Bazaar) -> None:
    has, gets = await bazaar.ready(), await bazaar.ready()
    session = await bazaar.won(has, status="active")
    await bazaar.deactivate(has)
    _, pairing = await bazaar.reroute(session)
    await bazaar.wave(pairing, [gets])
    assert await bazaar.accept(pairing, gets) == "won"
    assert (await bazaar.session_row(session))["mitra_id"] == gets


# creating


async def test_a_key_makes_one_pairing_of_one_body_for_a_day(bazaar: Bazaar) -> None:
    customer = await bazaar.customer()
    outcome, pairing = await bazaar.create(customer, note="a cat")
    assert outcome == "created"
    assert await bazaar.create(customer, note="a cat") == ("same", pairing)
    assert await bazaar.create(customer, note="a dog") == ("reused", pairing)
    assert await bazaar.create(customer, "another key") == ("searching", pairing)
    await bazaar.cancel(pairing)
    assert await bazaar.create(customer, note="a cat") == ("same", pairing), "as it is now"
    later = "UPDATE pairings SET created_at = created_at - interval '{}'"
    await bazaar.sql.execute(later.format("23 hours 59 minutes"))
    assert await bazaar.create(customer, note="a dog") == ("reused", pairing)
    await bazaar.sql.execute(later.format("2 minutes"))
    outcome, anew = await bazaar.create(customer, note="a dog")
    assert (outcome, anew != pairing) == ("created", True)
    assert (await bazaar.create(await bazaar.customer(), note="a dog"))[0] == "created", "a key is its customer's own"
    assert (await bazaar.create(str(uuid.uuid4())))[0] == "unknown"


async def test_of_two_created_at_once_one_is_made(bazaar: Bazaar, database: str) -> None:
    customer = await bazaar.customer()
    create = partial(bazaar.create, customer)
    first, second = await overlapping(database, lambda sql: create("key", sql=sql), lambda sql: create("key", sql=sql))
    assert (first[0], second) == ("created", ("same", first[1]))
    other = await overlapping(
        database, lambda sql: bazaar.cancel(first[1], sql), lambda sql: create("another", sql=sql)
    )
    assert other[1][0] == "created", "what was in the way was gone when it was looked at"
    create = partial(bazaar.create, await bazaar.customer())
    first, second = await overlapping(
        database, lambda sql: create("one key", sql=sql), lambda sql: create("another key", sql=sql)
    )
    assert (first[0], second) == ("created", ("searching", first[1]))


# versions, and other programs


async def test_a_pairings_version_moves_with_what_customers_see_and_changed_at_with_everything(bazaar: Bazaar) -> None:
    mitra, other = await bazaar.ready(), await bazaar.ready()
    pairing = await bazaar.pairing()
    seen = [await bazaar.pairing_row(pairing)]
    await bazaar.wave(pairing, [mitra, other])
    seen.append(await bazaar.pairing_row(pairing))
    await bazaar.decline(pairing, other)
    seen.append(await bazaar.pairing_row(pairing))
    await bazaar.accept(pairing, mitra)
    seen.append(await bazaar.pairing_row(pairing))
    assert [row["version"] for row in seen] == [1, 1, 1, 2]
    moments = [row["changed_at"] for row in seen]
    assert moments == sorted(set(moments))


async def test_a_sessions_version_moves_with_all_but_its_chat(bazaar: Bazaar) -> None:
    session = await bazaar.won()
    row = await bazaar.session_row(session)
    assert row["version"] == 1
    await bazaar.happens(session, Event.PAID)
    paid = await bazaar.session_row(session)
    assert paid["version"] == 2
    sent = await bazaar.sql.fetchrow(query("chat_send"), str(uuid.uuid4()), session, row["customer_id"], "1", "Halo")
    chatted = await bazaar.session_row(session)
    assert (sent["outcome"], chatted["version"], chatted["last_seq"]) == ("stored", 2, 1)
    assert chatted["changed_at"] > paid["changed_at"]
    await bazaar.vouched(row["mitra_id"], "goodbye", "is_online = false")
    assert (await bazaar.session_row(session))["version"] == 3, "its mitra is not reachable"
    await bazaar.vouched(row["mitra_id"], "back", "is_online = true")
    assert (await bazaar.session_row(session))["version"] == 4
    await bazaar.vouched(row["mitra_id"], "lost", "suspect_since = now()")
    assert (await bazaar.session_row(session))["version"] == 4, "a suspect counts as online"


async def test_another_programs_end_has_a_time_and_a_reason_and_frees_the_mitra(bazaar: Bazaar) -> None:
    mitra, gets = await bazaar.ready(), await bazaar.ready()
    session = await bazaar.won(mitra, status="active")
    _, pairing = await bazaar.reroute(session)
    await bazaar.wave(pairing, [gets])
    before = await bazaar.session_row(session)
    await bazaar.sql.execute("UPDATE chat_sessions SET status = 'ended' WHERE id = $1", session)
    after = await bazaar.session_row(session)
    assert (after["end_reason"], after["version"]) == ("external", before["version"] + 1)
    assert after["ended_at"] > before["changed_at"]
    assert await bazaar.open_sessions(mitra) == 0
    assert await bazaar.status(pairing) == "cancelled", "nobody is searched for a session that is over"
    assert await bazaar.offers(pairing) == {gets: "cancelled"}


async def test_another_programs_new_end_keeps_the_reason_that_it_gives(bazaar: Bazaar) -> None:
    session = await bazaar.won(status="active")
    await bazaar.sql.execute("UPDATE chat_sessions SET status = 'ended', end_reason = 'mitra' WHERE id = $1", session)
    assert (await bazaar.session_row(session))["end_reason"] == "mitra"


async def test_only_a_sessions_own_sides_may_do_something_to_it(bazaar: Bazaar) -> None:
    session = await bazaar.won(status="active")
    row = await bazaar.session_row(session)
    assert (await bazaar.happens(session, Event.END, party=str(uuid.uuid4())))[0] == "unknown"
    assert (await bazaar.happens(str(uuid.uuid4()), Event.END))[0] == "unknown"
    assert await bazaar.happens(session, Event.END, party=row["mitra_id"]) == ("done", "ended")


# payments


async def test_a_session_is_paid_once_an_invoice(bazaar: Bazaar) -> None:
    session = await bazaar.won()
    assert await bazaar.pay(session) == ("paid", True)
    row = await bazaar.session_row(session)
    assert row["status"] == "active"
    assert row["expires_at"] - row["started_at"] == pytest.approx(timedelta(seconds=SESSION_S), abs=BLINK)
    assert await bazaar.pay(session) == ("paid", False)
    assert await bazaar.pay(session, paid=False) == ("paid", False), "EXPIRED never overrides PAID"
    assert await bazaar.pay(session, "second") == ("refund_due", False), "paid for twice"
    assert await bazaar.pay(session, "second") == ("refund_due", False)
    assert await bazaar.payments(session) == {"inv": "paid", "second": "refund_due"}
    assert await bazaar.session_row(session) == row


async def test_an_expired_invoice_that_is_paid_all_the_same_counts(bazaar: Bazaar) -> None:
    session = await bazaar.won()
    assert await bazaar.pay(session, paid=False) == ("expired", False)
    assert await bazaar.pay(session, paid=False) == ("expired", False)
    assert (await bazaar.session_row(session))["status"] == "pending_payment"
    assert await bazaar.pay(session) == ("paid", True)
    assert await bazaar.payments(session) == {"inv": "paid"}


@pytest.mark.parametrize("status", ["expired", "cancelled", "ended"])
async def test_what_is_paid_too_late_is_to_be_refunded(bazaar: Bazaar, status: str) -> None:
    session = await bazaar.won(status=status)
    row = await bazaar.session_row(session)
    assert await bazaar.pay(session, "late") == ("refund_due", False)
    assert await bazaar.pay(session, "late", paid=False) == ("refund_due", False)
    assert await bazaar.pay(session, "later", extension=1) == ("refund_due", False)
    assert await bazaar.payments(session) == {"late": "refund_due", "later": "refund_due"}
    assert await bazaar.session_row(session) == row


async def test_an_extension_moves_the_end_once(bazaar: Bazaar) -> None:
    session = await bazaar.won(status="active")
    ends = (await bazaar.session_row(session))["expires_at"]
    assert await bazaar.pay(session, "one", extension=1) == ("paid", True)
    assert await bazaar.pay(session, "one", extension=1) == ("paid", False)
    assert await bazaar.pay(session, "other", extension=1) == ("refund_due", False)
    assert await bazaar.pay(session, "three", extension=3) == ("refund_due", False), "there was no second"
    assert await bazaar.pay(session, "two", extension=2) == ("paid", True)
    row = await bazaar.session_row(session)
    assert (row["extensions"], row["expires_at"] - ends) == (2, timedelta(seconds=2 * SESSION_S))
    assert await bazaar.pay(session, "zero") == ("refund_due", False), "nor can it be begun again"


async def test_an_extension_of_what_is_not_paid_for_is_to_be_refunded(bazaar: Bazaar) -> None:
    session = await bazaar.won()
    assert await bazaar.pay(session, "early", extension=1) == ("refund_due", False)
    assert await bazaar.pay(session) == ("paid", True)


async def test_a_payment_that_names_no_session_of_ours_is_kept_as_unmatched(bazaar: Bazaar) -> None:
    nobody = str(uuid.uuid4())
    assert await bazaar.pay(nobody) == ("unmatched", False)
    assert await bazaar.pay(nobody) == ("unmatched", False)
    assert await bazaar.pay(nobody, paid=False) == ("unmatched", False)
    assert await bazaar.pay(str(uuid.uuid4()), paid=False) == ("expired", False)
    record = await bazaar.sql.fetchrow("SELECT session_id, amount FROM payments WHERE external_id = $1", nobody)
    assert tuple(record) == (None, 50_000)


@pytest.mark.usefixtures("patient")
async def test_two_events_of_one_invoice_at_once_pay_once(bazaar: Bazaar, database: str) -> None:
    session, nobody = await bazaar.won(), str(uuid.uuid4())
    paid = await overlapping(database, partial(pay, bazaar, session), partial(pay, bazaar, session))
    assert paid == (("paid", True), ("paid", False))
    unmatched = await overlapping(database, partial(pay, bazaar, nobody), partial(pay, bazaar, nobody))
    assert unmatched == (("unmatched", False), ("unmatched", False))


# chat


async def test_messages_of_both_sides_at_once_are_numbered_without_gaps(bazaar: Bazaar, database: str) -> None:
    session = await bazaar.won(status="active")
    row = await bazaar.session_row(session)

    def send(sender: str, client_id: str) -> Any:
        def step(sql: asyncpg.Connection) -> Any:
            return sql.fetchrow(query("chat_send"), str(uuid.uuid4()), session, sender, client_id, "Halo")

        return step

    async with asyncio.timeout(10):
        await overlapping(database, send(row["customer_id"], "1"), send(row["mitra_id"], "1"))
        one, again = await overlapping(database, send(row["mitra_id"], "2"), send(row["mitra_id"], "2"))
    assert (one["outcome"], again["outcome"], again["message_id"]) == ("stored", "same", one["message_id"])
    found = await bazaar.sql.fetch("SELECT seq, sender FROM chat_messages ORDER BY seq")
    assert [tuple(each) for each in found] == [(1, "customer"), (2, "mitra"), (3, "mitra")]


BLINK = timedelta(seconds=5)


@pytest.fixture(scope="module")
def kept_database(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """One for all tests here, which are many and short."""
    made = asynccontextmanager(fresh_database)(postgres_server)
    runner = asyncio.Runner()
    yield runner.run(made.__aenter__())
    runner.run(made.__aexit__(None, None, None))
    runner.close()


@pytest.fixture
async def database(kept_database: str) -> str:
    async with another(kept_database) as sql:
        await sql.execute("TRUNCATE mitras, customers, auth_sessions, payments, presence_log CASCADE")
    return kept_database


async def pay(bazaar: Bazaar, session: str, sql: asyncpg.Connection) -> tuple[str, bool]:
    return await bazaar.pay(session, sql=sql)


async def reroute(bazaar: Bazaar, session: str, sql: asyncpg.Connection) -> tuple[str, str]:
    return await bazaar.reroute(session, sql=sql)


async def top_up(bazaar: Bazaar, pairing: str, mitras: list[str], sql: asyncpg.Connection) -> list[str]:
    (made,) = await bazaar.waves({pairing: 1}, mitras, size=9, sql=sql)
    return list(made["mitras"])
