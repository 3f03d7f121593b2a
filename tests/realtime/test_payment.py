"""What an invoice's event says, whatever somebody may send: understood, or not ours, and never an accident."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hadir.realtime.payment import Invoice, NotOurs, external_id, invoice_of

SESSION = str(uuid.UUID(int=7))
PAID = {"id": "inv-1", "external_id": SESSION, "status": "PAID", "amount": 50_000, "paid_at": "2026-01-02T03:04:05Z"}


def test_a_paid_invoice_is_understood() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert invoice_of(PAID) == Invoice(SESSION, "inv-1", SESSION, 0, True, 50_000, at)


def test_settled_is_paid_and_what_was_paid_counts_before_what_was_asked() -> None:
    found = invoice_of(PAID | {"status": "SETTLED", "paid_amount": 40_000})
    assert (found.paid, found.amount) == (True, 40_000)


def test_an_expired_invoice_was_not_paid() -> None:
    found = invoice_of(PAID | {"status": "EXPIRED", "paid_amount": 1})
    assert (found.paid, found.amount, found.paid_at) == (False, 50_000, None)


@pytest.mark.parametrize("n", [0, 1, 12, 9_999])
def test_the_external_id_names_the_session_and_its_extension(n: int) -> None:
    found = invoice_of(PAID | {"external_id": external_id(SESSION, n)})
    assert (found.session_id, found.extension, found.external_id) == (SESSION, n, external_id(SESSION, n))
    assert invoice_of(PAID | {"external_id": external_id(SESSION, n).upper()}) == found


@pytest.mark.parametrize("named", [f"{SESSION}:0", f"{SESSION}:01", f"{SESSION}:", f"{SESSION}:10000", f"{SESSION}:-1",
                                   f" {SESSION}", f"{SESSION}\n", "order-7", "",
                                   SESSION.replace("-", ""), None, 7, [SESSION]])  # fmt: skip
def test_another_external_id_is_not_ours(named: Any) -> None:
    with pytest.raises(NotOurs, match="external_id"):
        invoice_of(PAID | {"external_id": named})


@pytest.mark.parametrize("status", ["PENDING", "paid", "", None, 1, True, ["PAID"], {"PAID": 1}])
def test_another_status_is_not_ours(status: Any) -> None:
    with pytest.raises(NotOurs, match="status"):
        invoice_of(PAID | {"status": status})


@pytest.mark.parametrize("invoice", [None, "", "x" * 201, 7, ["inv-1"]])
def test_another_invoice_id_is_not_ours(invoice: Any) -> None:
    with pytest.raises(NotOurs, match="invoice"):
        invoice_of(PAID | {"id": invoice})


@pytest.mark.parametrize("amount", [0.5, -1, 2**53 + 1, 1e300, float("inf"), "50000", None, True, [], {}])
def test_an_amount_that_is_no_whole_number_of_rupiah_is_unknown_but_counts_as_paid(amount: Any) -> None:
    found = invoice_of(PAID | {"amount": amount})
    assert (found.paid, found.amount) == (True, None)


def test_a_whole_amount_may_be_written_with_a_point() -> None:
    amount = invoice_of(PAID | {"amount": 50_000.0}).amount
    assert (amount, type(amount)) == (50_000, int)


@pytest.mark.parametrize("at", ["yesterday", "", None, 1_767_322_800, "2026-01-02", "2026-01-02T03:04:05", [], {},
                                "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])  # fmt: skip
def test_a_time_that_is_none_is_unknown_but_counts_as_paid(at: Any) -> None:
    found = invoice_of(PAID | {"paid_at": at})
    assert (found.paid, found.paid_at) == (True, None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


SAID = st.fixed_dictionaries({}, optional=dict.fromkeys([*PAID, "paid_amount"], VALUES))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SAID, st.sets(st.sampled_from([*PAID])))
def test_whatever_is_said_is_understood_or_not_ours(said: dict[str, Any], kept: set[str]) -> None:
    body = said | {name: PAID[name] for name in kept}
    try:
        found = invoice_of(body)
    except NotOurs:
        return
    assert found.external_id == external_id(found.session_id, found.extension)
    assert found.amount is None or (type(found.amount) is int and 0 <= found.amount <= 2**53)
    assert found.paid_at is None or found.paid_at.astimezone(UTC)
