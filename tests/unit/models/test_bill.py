"""What the gateway says that a job has cost: exact amounts, and dollars only where they are known."""

from decimal import Decimal

import pytest
from airflow_fakes import stored_and_read

from airflow_provider_kling.models.bill import Bill, Billing, describe_bills

UNIT_PRICE = Decimal("0.14")
UNITS = Billing("unit", Decimal("4.5"), package_type="video")
DOLLARS = Billing("cash", Decimal("0.42"), "USD", list_price=Decimal("0.56"))
YUAN = Billing("cash", Decimal("3.92"), "CNY")


def bill(*items, job="1"):
    return Bill.of(job, items, UNIT_PRICE, "ours")


@pytest.mark.parametrize(
    ("items", "usd", "words"),
    [
        ([UNITS], "0.63", "0.63 USD (4.5 units)"),
        ([Billing("unit", Decimal(1))], "0.14", "0.14 USD (1 unit)"),
        ([Billing("unit", Decimal("40.00"))], "5.60", "5.60 USD (40 units)"),
        ([DOLLARS], "0.42", "0.42 USD"),
        ([UNITS, DOLLARS], "1.05", "1.05 USD (4.5 units and 0.42 USD)"),
        ([YUAN], None, "3.92 CNY"),
        ([UNITS, YUAN], None, "4.5 units and 3.92 CNY"),
        ([Billing("cash", Decimal("0.42"))], None, "0.42 of an unknown currency"),
        ([Billing("cash", Decimal(0), "CNY")], "0", "0.00 USD (0 CNY)"),
        ([Billing("unit", Decimal(-4))], None, "-4 units"),
    ],
)
def test_units_cost_the_price_of_the_connection_and_no_currency_is_converted(items, usd, words):
    found = bill(*items)
    assert found.usd == (None if usd is None else Decimal(usd))
    assert found.describe() == words


def test_a_sum_is_right_to_the_cent():
    bills = [bill(Billing("unit", Decimal("0.3")), job=str(n)) for n in range(300)]
    assert describe_bills(bills) == "12.60 USD (90 units)"


def test_it_comes_back_from_an_xcom_as_it_was():
    for items in ([UNITS], [DOLLARS, YUAN]):
        assert Bill.from_dict(stored_and_read(bill(*items).to_dict())) == bill(*items)


@pytest.mark.parametrize(
    "data",
    [
        *(
            None,
            7,
            [],
            {},
            {"kling_task_id": "1", "billing": {}},
            {"kling_task_id": 1, "billing": [{"amount": 1}]},
        ),
        *(
            {"kling_task_id": "1", "billing": [{"amount": amount}]}
            for amount in (None, "", "nan", "1e-999999", [])
        ),
        *(
            {"kling_task_id": "1", "billing": [{"amount": amount}]}
            for amount in ("9" * 40, "0." + "0" * 99, "1_0")
        ),
    ],
)
def test_what_is_no_bill_is_none(data):
    assert Bill.from_dict(data) is None


def test_a_bill_with_a_negative_sum_is_not_used_as_a_cost():
    told = {**bill(UNITS).to_dict(), "cost_usd": -100}
    assert Bill.from_dict(told).usd is None
