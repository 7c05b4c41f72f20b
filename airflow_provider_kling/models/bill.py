"""The bill of a job: what its gateway says that it has cost, in units of a prepaid pack or in money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_kling.models.prices import format_usd
from airflow_provider_kling.redaction import shorten
from airflow_provider_kling.values import as_object, read_number

_MAX_ITEMS = 20
_LONGEST_AMOUNT = 30  # digits


@dataclass(frozen=True, slots=True)
class Billing:
    """One item of what a gateway says that a job has cost.

    :param charge_type: ``unit``, of a prepaid pack, or ``cash``.
    :param amount: units, or money after discount.
    :param currency: of money, such as USD.
    :param package_type: of units: video, image or audio.
    :param list_price: of money: before discount.
    """

    charge_type: str
    amount: Decimal
    currency: str = ""
    package_type: str = ""
    list_price: Decimal | None = None

    def usd(self, unit_price_usd: Decimal) -> Decimal | None:
        """Return the amount in US dollars; None where it is not known. No currency is converted."""
        if self.amount < 0:
            return None
        if self.charge_type == "unit":
            return self.amount * unit_price_usd
        return self.amount if self.currency.upper() == "USD" or not self.amount else None

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON-ready data, its amounts as texts, without what is not said."""
        data = {
            "charge_type": self.charge_type,
            "amount": f"{self.amount:f}",
            "currency": self.currency,
            "package_type": self.package_type,
            "list_price": "" if self.list_price is None else f"{self.list_price:f}",
        }
        return {name: value for name, value in data.items() if value}

    @classmethod
    def from_dict(cls, data: Any) -> Billing | None:
        """Return what :meth:`to_dict` has described; None for anything else."""
        data = as_object(data)
        words = (data.get(name) for name in ("charge_type", "currency", "package_type"))
        kind, currency, package = (shorten(word, 40) if isinstance(word, str) else "" for word in words)
        amount = read_amount(data.get("amount"))
        if amount is None:
            return None
        return cls(kind, amount, currency, package, read_amount(data.get("list_price")))


@dataclass(frozen=True, slots=True)
class Bill:
    """What a gateway says that one job has cost.

    :param usd: US dollars; None where they are not known, as of money in another currency.
    :param client_id: our own id of the job, where the gateway takes one.
    """

    kling_task_id: str
    items: tuple[Billing, ...]
    usd: Decimal | None
    client_id: str = ""

    @classmethod
    def of(
        cls, kling_task_id: str, items: Iterable[Billing], unit_price_usd: Decimal, client_id: str = ""
    ) -> Bill:
        """Return the bill with these items.

        :param unit_price_usd: US dollars for a unit of a pack.
        """
        items = tuple(items)
        return cls(kling_task_id, items, sum_known(item.usd(unit_price_usd) for item in items), client_id)

    @property
    def cost_usd(self) -> float | None:
        """US dollars as a number for JSON."""
        return None if self.usd is None else float(self.usd)

    def facts(self) -> dict[str, Any]:
        """Return what XComs and sidecars have of it, as JSON-ready data."""
        return {"cost_usd": self.cost_usd, "billing": [item.to_dict() for item in self.items]}

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {"kling_task_id": self.kling_task_id, "client_id": self.client_id, **self.facts()}

    @classmethod
    def from_dict(cls, data: Any) -> Bill | None:
        """Return what :meth:`to_dict` has described; None for anything else."""
        data = as_object(data)
        listed, job, client_id = (data.get(name) for name in ("billing", "kling_task_id", "client_id"))
        listed = listed[:_MAX_ITEMS] if isinstance(listed, list) else []
        items = tuple(filter(None, map(Billing.from_dict, listed)))
        if not items or not isinstance(job, str):
            return None
        usd = read_amount(data.get("cost_usd"))
        usd = None if usd is None or usd < 0 else usd
        return cls(job, items, usd, client_id if isinstance(client_id, str) else "")

    def describe(self) -> str:
        """Return it for people: the dollars, and what the gateway counts."""
        return describe_bills([self])


#: The facts of a job whose gateway sends no bill, or none yet.
NO_BILL: Mapping[str, Any] = {"cost_usd": None, "billing": []}


def describe_bills(bills: Iterable[Bill]) -> str:
    """Return what bills come to together, for people, such as "0.56 USD (4 units)"."""
    bills = list(bills)
    counted = describe_items(item for bill in bills for item in bill.items)
    known = [bill.usd for bill in bills if bill.usd is not None]
    if not known:
        return counted
    usd = format_usd(sum(known, Decimal(0)))
    return usd if counted == usd else f"{usd} ({counted})"


def describe_items(items: Iterable[Billing]) -> str:
    """Return what the gateway counts, such as "4 units": a sum for each currency."""
    sums: dict[str, Decimal] = {}
    for item in items:
        unit = "unit" if item.charge_type == "unit" else item.currency or "of an unknown currency"
        sums[unit] = sums.get(unit, Decimal(0)) + item.amount
    return " and ".join(_counted(amount, unit) for unit, amount in sums.items())


def _counted(amount: Decimal, unit: str) -> str:
    if unit == "USD":
        return format_usd(amount)
    if unit != "unit":
        return f"{amount:f} {unit}"
    return f"{amount.normalize():f} {unit if amount == 1 else 'units'}"


def sum_known(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum; None where one of them is unknown."""
    known = list(amounts)
    return None if None in known else sum((amount for amount in known if amount), Decimal(0))


def read_amount(value: Any) -> Decimal | None:
    """Return an amount that is given as a text or as a number; None for anything else."""
    written = str(value).strip()
    if read_number(value) is None or len(written) > _LONGEST_AMOUNT:
        return None
    amount = Decimal(written)
    return amount if abs(amount.adjusted()) <= _LONGEST_AMOUNT else None
