"""Breaks the code, one rule at a time, and sees its test fail: `make broken`.

Each pair is (rule, file, what stands there, what it becomes, the test that must then fail). Works on a copy.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
SECONDS = 240


class Pair(NamedTuple):
    rule: str
    file: str
    sound: str
    broken: str
    test: str


LIFE, MIRROR, SWEEPS, HTTP = (f"tests/{name}.py" for name in (
    "realtime/test_socket_life", "realtime/test_mirror", "realtime/test_sweeps", "http/test_http"))  # fmt: skip
PRESENCE, DISPLACED, PROTOCOL = (f"tests/realtime/test_{name}.py" for name in ("presence", "displacement", "protocol"))
AWAY, HOSTILE, LOAD, RACES = (
    f"tests/faults/test_{name}.py" for name in ("stores_away", "hostile", "under_load", "interleavings"))  # fmt: skip
BOARD, LOOKUP = "tests/http/test_dashboard.py", "tests/http/test_mitras.py"
RT = "hadir/realtime"
PAIRING_SQL, FUNCTIONS = "hadir/db/migrations/0003_pairing.sql", "tests/db/test_pairing_functions.py"
MARKET_FAULTS = "tests/faults/test_pairing_faults.py"
CLOCKS, COMPANY, SET_BACK = "tests/faults/test_clocks.py", "tests/faults/test_company.py", "tests/db/test_set_back.py"

PAIRS = [
    Pair("R1 what Valkey missed is made up for", f"{RT}/mirror.py", "self._failed.update(mitra_ids)", "pass",
         f"{AWAY}::test_a_write_whose_mirroring_failed_is_made_up_for"),
    Pair("R2 never backwards", f"{RT}/scripts/apply.lua", "if held and tonumber(held) > tonumber(version) then",
         "if false then", f"{MIRROR}::test_a_late_apply_of_an_older_row_changes_nothing"),
    Pair("R2 Postgres went backwards", f"{RT}/mirror.py", "            self._on_backwards()", "            pass",
         f"{MIRROR}::test_a_postgres_that_went_backwards_makes_a_new_seed"),
    Pair("R3 fencing", f"{RT}/presence.py",
         "    if row.connection_id != event.connection_id:\n        return Decision(Outcome.NOT_OWNER, row)\n"
         "    if row.instance_id is None and not event.offline:", "    if False:",
         f"{DISPLACED}::test_an_old_sockets_late_close_does_not_touch_its_successors_row"),
    Pair("R3 a dead connection never reclaims", f"{RT}/connection.py",
         "connection.reclaiming or connection.row is None or connection.gone", "connection.row is None",
         f"{LIFE}::test_a_connection_that_has_ended_never_reclaims"),
    Pair("R4 a goodbye is a goodbye", f"{RT}/messages.py", 'return (True, "goodbye")', 'return (False, "lost")',
         f"{LIFE}::test_a_mitra_that_connects_is_available_and_one_that_says_goodbye_is_offline"),
    Pair("R4 a loss is not", f"{RT}/presence.py",
         "if event.offline or rules.grace(event.reason) <= timedelta():", "if True:",
         f"{LIFE}::test_a_lost_connection_is_suspect_then_offline"),
    Pair("R4 a goodbye after a burial", f"{RT}/presence.py", "if row.instance_id is None and not event.offline:",
         "if row.instance_id is None:", f"{RACES}::test_a_goodbye_after_a_burial_by_mistake_is_a_goodbye"),
    Pair("R4 displacement is told", f"{RT}/connection.py",
         "                self.close(CloseCode.SUPERSEDED)", "                pass",
         f"{DISPLACED}::test_the_same_login_on_another_instance_supersedes"),
    Pair("R5 hold", f"{RT}/presence.py", "return online >= floor and due > online * max_fraction", "return False",
         f"{SWEEPS}::test_many_graces_that_end_at_once_are_held_until_an_operator_lets_go"),
    Pair("R5 a hold ends", f"{RT}/sweeps.py", "(held_s or 0.0) < self._config.auto_offline_hold_s", "True",
         f"{SWEEPS}::test_a_hold_ends_by_itself"),
    Pair("R5 only a warm mirror", f"{RT}/sweeps.py",
         "limit=STALE_AT_ONCE, warm=True", "limit=STALE_AT_ONCE, warm=False",
         f"{SWEEPS}::test_the_stale_are_found_by_the_sweep_and_only_on_a_warm_mirror"),
    Pair("R5 two witnesses", f"{RT}/presence.py",
         "max(row.last_sign, when.occurred - timedelta(seconds=event.beat_age_s))",
         "when.occurred - timedelta(seconds=event.beat_age_s)",
         f"{PRESENCE}::test_stale_needs_both_witnesses_to_be_old"),
    Pair("R5 expiry by version", f"{RT}/presence.py", "and row.version == event.version", "",
         f"{PRESENCE}::test_expiry_requires_the_version_it_judged_and_keeps_the_reason"),
    Pair("R6 beats of the deactivated", f"{RT}/scripts/beat.lua", "if redis.call('SISMEMBER', KEYS[1], id) == 1 then",
         "if false then",
         f"{MIRROR}::test_a_beat_of_a_deactivated_mitra_is_refused_in_the_round_trip_that_would_record_it"),
    Pair("R1 the mirror's word deactivates nobody", f"{RT}/heartbeats.py",
         "self._reclaim(by_mitra[mitra_id] for mitra_id in (*answer.deactivated, *answer.strangers))",
         "from hadir.realtime.messages import CloseCode\n"
         "        for mitra_id in answer.deactivated:\n            by_mitra[mitra_id].close(CloseCode.DEACTIVATED)\n"
         "        self._reclaim(by_mitra[mitra_id] for mitra_id in answer.strangers)",
         f"{MIRROR}::test_a_mirror_that_wrongly_calls_somebody_deactivated_is_put_right_by_the_next_beat"),
    Pair("R1 a reset is an outage", f"{RT}/valkey.py",
         "    RuntimeError,  # uvloop's word for a write to what has just been reset; the client lets it pass\n", "",
         "tests/faults/test_valkey_link.py::test_a_reset_of_an_idle_connection_is_an_outage_and_no_defect"),
    Pair("R6 sockets of the deactivated", f"{RT}/connection.py",
         "            case Standing.DEACTIVATED:\n                self.close(CloseCode.DEACTIVATED)\n", "",
         f"{HTTP}::test_another_programs_deactivation_is_found_without_any_event"),
    Pair("R6 logins of the deactivated", "hadir/db/migrations/0001_presence.sql",
         "IF was_active AND NOT NEW.is_active THEN", "IF false THEN",
         f"{HTTP}::test_deactivation_reaches_every_instance_and_both_stores"),
    Pair("R8 the feed finds what no event told", f"{RT}/feed.py", "            self.deliver(new)\n", "",
         f"{DISPLACED}::test_with_the_bus_dead_a_displacement_is_found_by_polling"),
    Pair("R8 an event is quick", f"{RT}/feed.py", "                self.read_again(event.ids)", "                pass",
         f"{HTTP}::test_deactivation_reaches_every_instance_and_both_stores"),
    Pair("R9 a cold mirror is recognised", f"{RT}/scripts/lib.lua", "return redis.call('GET', sentinel) == run_id()",
         "return true", f"{MIRROR}::test_a_mirror_that_was_seeded_for_another_run_is_cold"),
    Pair("R9 warm takes every instance's beats", f"{RT}/scripts/lib.lua",
         "if redis.call('GET', KEYS[n]) ~= 'beaten' then", "if false then",
         f"{MIRROR}::test_the_mirror_is_warm_only_when_every_live_instance_has_beaten_again"),
    Pair("R9 a wipe stops the seed", f"{RT}/scripts/apply.lua",
         "if token ~= '' and redis.call('GET', KEYS[8]) ~= token then", "if false then",
         f"{MIRROR}::test_a_wipe_inside_a_seed_makes_it_begin_again"),
    Pair("R9 a clock that jumps", f"{RT}/heartbeats.py", "CLOCK_JUMP_S = 2.0", "CLOCK_JUMP_S = 1e12",
         f"{MIRROR}::test_a_clock_that_jumps_makes_the_mirror_begin_again"),
    Pair("R10 stale says so", f"{RT}/availability.py", '{"state": "stale"}', "{}",
         f"{HTTP}::test_the_beacon_is_rebuilt_from_postgres_then_stale_then_unavailable"),
    Pair("R11 a drain is a rotation", f"{RT}/node.py", "        await self._rotate_all(started)\n",
         "        for each in self.registry:\n            each.close(CloseCode.RESTARTING)\n",
         f"{LOAD}::test_a_rolling_restart"),
    Pair("R12 a deaf flood", "hadir/http/protocol.py", "            if self._late > LATE_MAX:",
         "            if False:",
         f"{HOSTILE}::test_a_flood_of_pings_by_a_reader_that_does_not_read_is_ended_and_grows_nothing"),
    Pair("R12 too many frames", f"{RT}/dialogue.py", "if self._frames_left >= 0.0:", "if True:",
         f"{PROTOCOL}::test_too_many_frames_are_refused_then_end_the_socket"),
    Pair("R12 handshakes end", "hadir/http/protocol.py", "        self._expect_request()", "        pass",
         f"{HOSTILE}::test_a_handshake_that_does_not_arrive_is_ended"),
    Pair("R13 silence", f"{RT}/dialogue.py", "if now >= self.last_beat + self._stale_s:", "if False:",
         f"{PROTOCOL}::test_silence_is_found_by_the_instance_itself"),
    Pair("R13 the death of an instance", f"{RT}/liveness.py", "                await self._bury(instance)",
         "                pass",
         f"{SWEEPS}::test_a_killed_instances_mitras_are_suspect_within_its_proof_then_get_the_long_grace"),
    Pair("R13 death takes proof", f"{RT}/liveness.py", "return not has_lease and min(age_s, ", "return min(age_s, ",
         f"{SWEEPS}::test_death_takes_proof_from_both_stores"),
    Pair("R13 a frozen instance takes its mitras back", f"{RT}/presence.py",
         '    return Decision(Outcome.BACK, back, beat=True)', "    return Decision(Outcome.UNCHANGED, row)",
         f"{SWEEPS}::test_a_frozen_instance_that_comes_back_takes_its_mitras_back"),
    Pair("R14 every change is logged", "hadir/db/migrations/0001_presence.sql",
         "(state, NEW.is_active) = (was, was_active)", "NOT NEW.is_online",
         f"{LIFE}::test_a_lost_connection_is_suspect_then_offline"),
    Pair("R15 amnesty", f"{RT}/sweeps.py", "return any(at is None or now - at < grace for at in since)", "return False",
         f"{SWEEPS}::test_nobody_is_expired_by_an_instance_that_has_not_been_there_for_a_grace"),
    Pair("beats never lower", "hadir/db/queries/beats_store.sql",
         "AND (p.last_heartbeat_at IS NULL OR p.last_heartbeat_at < ", "AND (true OR p.last_heartbeat_at < ",
         f"{SWEEPS}::test_beats_reach_postgres_without_moving_versions_and_never_backwards"),
    Pair("pending while Postgres is away", f"{RT}/connection.py",
         "            self.send_state(None)\n        self.sockets.beaten",
         "            pass\n        self.sockets.beaten",
         f"{AWAY}::test_with_postgres_away_a_connect_is_pending_and_claimed_when_it_is_back"),
    Pair("a held row stops nobody else", "hadir/db/queries/presence_lock.sql", "SKIP LOCKED", "",
         f"{RACES}::test_a_row_that_somebody_holds_stops_nobody_else"),
    Pair("R8 the next leader reads again", f"{RT}/feed.py",
         "            self._seen = {}  # nobody", "            pass  # nobody",
         f"{RACES}::test_what_changed_while_nobody_led_is_applied_by_the_next_leader"),
    Pair("R3 a claim that had to wait", f"{RT}/presence.py", "when.occurred < row.claimed_at - CLAIM_LATE", "False",
         f"{RACES}::test_a_claim_that_had_to_wait_does_not_displace_a_newer_login"),
    Pair("R2 a claim that a failover lost", f"{RT}/connection.py",
         "            self.close(CloseCode.RESTARTING)\n        else:",
         "            pass\n        else:",
         f"{RACES}::test_a_socket_whose_claim_a_failover_lost_is_told_to_come_again"),
    Pair("R9 overflow takes a seed", f"{RT}/mirror.py", "            self._on_overflow()", "            pass",
         f"{RACES}::test_more_than_can_be_remembered_takes_a_seed"),
    Pair("beat strings never go back", f"{RT}/scripts/lib.lua", "if newer and until_ms", "if until_ms",
         f"{RACES}::test_beats_that_reach_the_mirror_late_never_shorten_a_life"),
    Pair("R13 unwritten closes are judged", f"{RT}/node.py", "        if written:", "        if True:",
         f"{RACES}::test_an_instance_that_could_not_write_its_closes_is_judged"),
    Pair("R11 who has left stays away", f"{RT}/liveness.py",
         "        if self._left:\n            return", "        pass",
         f"{RACES}::test_a_stop_that_is_waited_for_leaves_nobody_cold"),
    Pair("R11 a drain finds those that claim", f"{RT}/peer.py", "self._unsaid.append(text)", "pass",
         f"{RACES}::test_a_socket_that_is_claiming_when_the_drain_begins_is_told_to_reconnect"),
    Pair("R12 heads end", "hadir/http/protocol.py", "if self._size > HEAD_MAX:", "if False:",
         f"{HOSTILE}::test_a_head_without_end_is_refused"),
    Pair("R12 pongs and fragments", "hadir/http/protocol.py", "        if told is not None:\n            told()",
         "        if told is not None:\n            (told is self.on_ping) and told()",
         f"{HOSTILE}::test_a_flood_of_frames_that_make_no_message_is_ended"),
    Pair("dashboards: each change once", f"{RT}/dashboards.py",
         "if self._told.get(record[\"mitra_id\"], 0) < record[\"version\"]:",
         "if True:", f"{BOARD}::test_changes_on_any_instance_are_told_on_every_other"),
    Pair("dashboards: two frames a second", f"{RT}/dashboards.py", "FRAME_S = 0.5", "FRAME_S = 0.0",
         f"{BOARD}::test_frames_are_at_most_two_a_second"),
    Pair("dashboards: conflated", f"{RT}/dashboards.py", "if dashboard.missed is None and not dashboard.busy:",
         "if True:", f"{BOARD}::test_a_dashboard_that_does_not_read_is_conflated_and_catches_up"),
    Pair("dashboards: bounded lists", f"{RT}/dashboards.py", "changes[:LISTED_MAX]", "changes",
         f"{BOARD}::test_many_changes_at_once_are_listed_up_to_a_bound_and_counted_beyond"),
    Pair("dashboards: revoked", f"{RT}/dashboards.py", "            if dashboard.sid in gone:", "            if False:",
         f"{BOARD}::test_a_login_that_is_revoked_ends_its_dashboards_everywhere"),
    Pair("mitras: pages without a gap", "hadir/http/mitras.py", "after_id + 1", "after_id + 2**125",
         f"{LOOKUP}::test_pages_follow_each_other_without_gap_or_repetition_while_rows_come_and_go"),
    Pair("config: on record", "hadir/db/queries/config_store.sql", "(SELECT value FROM before)", "NULL::jsonb",
         f"{LOOKUP}::test_configuration_is_typed_and_every_change_is_on_record"),
    Pair("ports in turn", "hadir/dev/embedded.py", "        os.pwrite(turns,", "        (lambda *_: None)(turns,",
         "tests/dev/test_embedded.py::test_processes_that_ask_at_once_get_different_ports"),
    Pair("the seed's keys", f"{RT}/scripts/apply.lua", "if open > 0 then redis.call('SET', capacity_key, open)",
         "if open > 1 then redis.call('SET', capacity_key, open)",
         f"{MIRROR}::test_the_seeds_keys_alone_find_exactly_the_available_at_every_step_of_a_random_walk"),
    Pair("R7 capacity", PAIRING_SQL, "ELSIF m.open_sessions >= m.max_sessions THEN", "ELSIF false THEN",
         f"{FUNCTIONS}::test_a_busy_mitra_keeps_its_offer_and_wins_once_it_has_room"),
    Pair("R7 the mitra is locked", PAIRING_SQL,
         "ORDER BY mitra_id FOR UPDATE;\n        SELECT * INTO m", "ORDER BY mitra_id;\n        SELECT * INTO m",
         f"{FUNCTIONS}::test_one_mitra_that_accepts_two_at_once_wins_as_many_as_it_has_room_for"),
    Pair("R7 the pairing is locked", PAIRING_SQL,
         "WHERE id = p_pairing FOR UPDATE;\n    END IF;", "WHERE id = p_pairing;\n    END IF;",
         f"{FUNCTIONS}::test_of_two_who_accept_at_once_the_first_wins_and_the_other_hears_taken"),
    Pair("R12 open offers of a mitra", PAIRING_SQL, "    PERFORM pg_advisory_xact_lock(7230015448411);\n", "",
         f"{FUNCTIONS}::test_limits_hold_for_two_waves_at_once"),
    Pair("R12 the pace of chat over HTTP", "hadir/http/sessions.py",
         'says.take(login.subject_id, "This account sends messages too fast.")', "pass",
         "tests/realtime/test_chat.py::test_who_sends_too_fast_over_http_is_refused_alone"),
    Pair("R12 the pace of reroutes", "hadir/http/sessions.py", "asks.take(login.subject_id, TOO_OFTEN)", "pass",
         "tests/realtime/test_pairings.py::test_whoever_asks_too_often_is_refused_whichever_way_it_asks"),
    Pair("R12 the oldest wait gives way", f"{RT}/waiters.py", "            oldest.end()\n", "",
         f"{HTTP}::test_of_too_many_requests_that_wait_for_one_account_the_oldest_gives_way"),
    Pair("ETags compare weakly", "hadir/http/requests.py", '.removeprefix("W/")', "",
         f"{HTTP}::test_what_a_client_says_it_knows_is_compared_as_etags_are"),
    Pair("delivered is what was shown", "hadir/http/mitra_status.py",
         "            told.withhold_offers()\n",
         "            node.market.delivered(login.subject_id, [*told.offers])\n            told.withhold_offers()\n",
         "tests/realtime/test_pairings.py::test_an_offer_that_is_not_shown_is_not_marked_as_delivered"),
    Pair("R8 nothing is told twice", f"{RT}/told.py", "and pairing_id not in self._over:", "and True:",
         "tests/realtime/test_told.py::test_readings_in_any_order_tell_everything_once_and_in_order"),
    Pair("R8 no message twice", f"{RT}/told.py",
         "if message.seq > self._seqs.get(", "if message.seq >= self._seqs.get(",
         "tests/realtime/test_told.py::test_messages_go_on_behind_one_that_was_deleted_and_none_comes_twice"),
    Pair("R8 a search ends with its session", f"{RT}/bell.py", "            (self._over, over),\n", "",
         "tests/realtime/test_pairings.py::test_a_search_for_a_session_that_ends_is_over"),
    Pair("R6 offers are withdrawn", PAIRING_SQL,
         "SET status = 'withdrawn'\n        WHERE mitra_id = NEW.mitra_id",
         "SET wave = wave\n        WHERE mitra_id = NEW.mitra_id",
         f"{FUNCTIONS}::test_a_mitra_taken_out_of_service_has_no_open_offers"),
    Pair("R11 timers are in Postgres", f"{RT}/sessions.py",
         'sql("sessions_due"), DUE_AT_ONCE', 'sql("sessions_due"), 0',
         "tests/realtime/test_timers.py::test_timers_survive_a_restart_of_all_instances"),
    Pair("R7 one winner under fire", PAIRING_SQL,
         "        SELECT * INTO p FROM pairings WHERE id = p_pairing FOR UPDATE;\n    END IF;\n", "    END IF;\n",
         "tests/faults/test_one_winner.py::test_one_of_200_wins_each_time_whoever_is_killed"),
    Pair("R7 capacity under fire", PAIRING_SQL, "ELSIF m.open_sessions >= m.max_sessions THEN",
         "ELSIF false THEN",
         "tests/faults/test_one_winner.py::test_nobody_exceeds_their_capacity_however_many_they_accept_at_once[1]"),
    Pair("timers wait for nobody's lock", PAIRING_SQL,
         "ORDER BY p.mitra_id FOR UPDATE SKIP LOCKED);", "ORDER BY p.mitra_id FOR UPDATE);",
         f"{FUNCTIONS}::test_whose_row_somebody_holds_keeps_no_other_session_from_its_end"),
    Pair("waves wait for nobody's lock", PAIRING_SQL, "FOR KEY SHARE OF mitras SKIP LOCKED", "--",
         f"{FUNCTIONS}::test_a_mitra_whom_another_program_holds_is_left_out_of_a_wave_that_goes_to_all_others"),
    Pair("a payment that came in time counts", PAIRING_SQL,
         "SELECT FROM webhook_events w WHERE w.session_id = c.id AND w.processed_at IS NULL",
         "SELECT FROM webhook_events w WHERE false",
         f"{FUNCTIONS}::test_no_session_ends_by_itself_while_an_event_about_it_waits"),
    Pair("a defect ends one command", f"{RT}/market.py",
         "        except Exception:  # whoever", "        except LookupError:  # whoever",
         f"{MARKET_FAULTS}::test_a_defect_met_by_one_message_is_told_and_ends_nobody"),
    Pair("pending is not in", f"{RT}/connection.py",
         "        if self.row is None:\n            self.send(error(",
         "        if False:\n            self.send(error(",
         f"{MARKET_FAULTS}::test_whose_login_could_not_be_checked_yet_neither_hears_nor_does_anything"),
    Pair("no longer theirs", f"{RT}/work.py",
         "if any(each.concerns(told.subject_id) for each in sessions.get(name, ()))", "if name in sessions",
         f"{MARKET_FAULTS}::test_who_handed_a_session_over_hears_nothing_that_is_said_afterwards"),
    Pair("what is deleted is gone", f"{RT}/told.py", "            self.sessions.pop(name, None)\n", "",
         f"{MARKET_FAULTS}::test_what_is_deleted_is_in_no_state_any_more"),
    Pair("bus down: polled", f"{RT}/feed.py", "        await self._poll_work(since - OVERLAP)\n", "",
         f"{MARKET_FAULTS}::test_with_valkey_frozen_an_offer_arrives_elsewhere_and_its_accept_wins"),
    Pair("presence waits for no session", PAIRING_SQL, "ORDER BY id FOR NO KEY UPDATE SKIP LOCKED));",
         "ORDER BY id FOR NO KEY UPDATE));",
         f"{FUNCTIONS}::test_no_presence_is_kept_waiting_by_a_session_that_somebody_holds"),
    Pair("a deactivation waits for no pairing", PAIRING_SQL, "ORDER BY id FOR UPDATE SKIP LOCKED));",
         "ORDER BY id FOR UPDATE));", f"{FUNCTIONS}::test_a_deactivation_waits_for_nobody_who_is_deciding_a_pairing"),
    Pair("R6 the next wave withdraws", PAIRING_SQL, "AND m.mitra_id = o.mitra_id AND NOT m.is_active;",
         "AND m.mitra_id = o.mitra_id AND false;",
         f"{FUNCTIONS}::test_what_a_deactivation_left_open_the_next_wave_withdraws"),
    Pair("no offer past its deadline", "hadir/db/queries/pairings_next.sql", " AND expires_at > clock_timestamp()", "",
         f"{FUNCTIONS}::test_nobody_is_offered_what_is_past_the_deadline_that_is_shown"),
    Pair("held pairings stop no wave", "hadir/db/queries/pairings_next.sql", " FOR NO KEY UPDATE SKIP LOCKED", "",
         f"{FUNCTIONS}::test_pairings_that_somebody_holds_keep_no_other_from_its_wave"),
    Pair("a deleted session is not searched for", PAIRING_SQL, "CREATE TRIGGER chat_sessions_gone BEFORE DELETE",
         "CREATE TRIGGER chat_sessions_gone BEFORE UPDATE",
         f"{FUNCTIONS}::test_a_search_for_a_session_that_is_deleted_is_over"),
    Pair("statements give up", PAIRING_SQL,
         ") LANGUAGE plpgsql SET lock_timeout = '4s' AS $$\nDECLARE\n    p pairings%ROWTYPE;\n    m mitra_presence",
         ") LANGUAGE plpgsql AS $$\nDECLARE\n    p pairings%ROWTYPE;\n    m mitra_presence",
         f"{FUNCTIONS}::test_a_statement_gives_up_before_its_client_and_leaves_nothing_waiting[accept]"),
    Pair("a held payment holds up no other", f"{RT}/payments.py",
         "                return [event]\n", "                raise\n",
         f"{MARKET_FAULTS}::test_payments_and_ends_of_others_do_not_wait_for_a_session_that_somebody_holds"),
    Pair("R8 what could not be read is read again", f"{RT}/feed.py",
         "                self._work_of[role].add(party.subject_id)\n", "                pass\n",
         f"{MARKET_FAULTS}::test_what_could_not_be_read_when_it_was_rung_is_told_when_it_can"),
    Pair("set back: the newest claim wins all the same", f"{RT}/presence.py", " and not when.precedes(claimed_at)", "",
         f"{PRESENCE}::test_what_is_from_before_the_clock_was_set_back_says_nothing_about_when"),
    Pair("set back: the silent are stale all the same", f"{RT}/presence.py", "if not when.precedes(row.last_sign):",
         "if True:",
         f"{PRESENCE}::test_what_is_from_before_the_clock_was_set_back_says_nothing_about_when"),
    Pair("set back: a suspicion is over", "hadir/db/queries/expiry_due.sql",
         "    OR suspect_since > now() + interval '1 second')", ")",
         f"{SET_BACK}::test_a_suspicion_that_is_to_come_is_over"),
    Pair("set back: beats are lowered", "hadir/db/queries/beats_store.sql",
         "       OR p.last_heartbeat_at > clock_timestamp() + interval '1 second')", ")",
         f"{SET_BACK}::test_a_beat_lowers_one_that_is_to_come"),
    Pair("set back: somebody leads", "hadir/db/queries/lease_take.sql",
         "   OR leases.expires_at > clock_timestamp() + make_interval(secs => $3::float8 + 1)\n", "",
         f"{SET_BACK}::test_a_dead_leaders_lease_can_be_taken"),
    Pair("set back: the dead have an age", "hadir/db/queries/instances_all.sql", "abs(", "(",
         f"{SET_BACK}::test_an_instance_whose_beat_is_to_come_can_be_judged"),
    Pair("set back: the dead can be buried", "hadir/db/queries/instance_rows.sql", "abs(", "(",
         f"{SET_BACK}::test_an_instance_whose_beat_is_to_come_can_be_judged"),
    Pair("set back: the dead are forgotten", "hadir/db/queries/instance_forget.sql", "abs(", "(",
         f"{SET_BACK}::test_an_instance_whose_beat_is_to_come_can_be_judged"),
    Pair("a jump of Postgres's clock ends no grace", f"{RT}/sweeps.py",
         "            self._clock_jumped_at = time.monotonic()\n", "",
         f"{CLOCKS}::test_postgres_clock_jumps_and_nobody_is_lost_or_kept_by_it"),
    Pair("a jump of Postgres's clock is known to the next leader", f"{RT}/sweeps.py",
         '            tasks.create_task(self._know_the_clock(), name="clock")\n', "",
         f"{CLOCKS}::test_postgres_clock_jumps_and_nobody_is_lost_or_kept_by_it"),
    Pair("a jump of Valkey's clock makes the mirror anew", f"{RT}/heartbeats.py",
         "            await self._on_clock_jump()\n", "",
         f"{CLOCKS}::test_valkeys_clock_jumps_and_the_beacon_says_the_same"),
    Pair("no session state behind a pooler", "hadir/db/pool.py", 'cache = 0 if pooler == "transaction" else 100',
         "cache = 100",
         f"{COMPANY}::test_statements_share_few_connections_and_outlive_them"),
    Pair("only commands that managed Valkeys allow", f"{RT}/scripts/lease.lua", "redis.call('EXISTS', KEYS[2]) == 0",
         "#redis.call('KEYS', KEYS[2]) == 0", f"{COMPANY}::test_the_core_holds[valkey 8, allow-list]"),
    Pair("a month is made up for whole", "hadir/db/migrations/0001_presence.sql", "SELECT * FROM moved'",
         "SELECT * FROM moved LIMIT 1'",
         f"{SWEEPS}::test_a_month_without_its_partition_stops_nobody_and_is_made_up_for"),
    Pair("another service's schema is adopted", "hadir/db/migrations/0001_presence.sql",
         "IF found = 'character varying' AND expected.type = 'text' THEN", "IF false THEN",
         "tests/db/test_migrate.py::test_the_product_runs_on_another_services_schema"),
]  # fmt: skip


def outcome(pair: Pair, copy: Path) -> str:
    """`caught`, or what is wrong with the pair."""
    source = (ROOT / pair.file).read_text()
    if pair.sound not in source:
        return "NOT THERE any more"
    (copy / pair.file).write_text(source.replace(pair.sound, pair.broken, 1))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", pair.test]
    try:
        run = subprocess.run(command, cwd=copy, capture_output=True, timeout=SECONDS, check=False)
        failed = run.returncode == 1
    except subprocess.TimeoutExpired:
        failed = True
    finally:
        (copy / pair.file).write_text(source)
    return "caught" if failed else "NOT CAUGHT"


def main(wanted: list[str]) -> int:
    missed = 0
    with tempfile.TemporaryDirectory(prefix="hadir-broken-") as name:
        copy = Path(name) / "copy"
        for part in ("hadir", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for pair in PAIRS:
            if wanted and not any(word in pair.rule for word in wanted):
                continue
            result = outcome(pair, copy)
            missed += result != "caught"
            print(f"{result:10} {pair.rule}: {pair.test.partition('::')[2]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
