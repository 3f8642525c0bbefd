"""Reconcile a bank statement with open invoices. Inputs on standard input, result on standard output."""

import csv
import io
import json
import re
import sys
from collections import defaultdict
from datetime import date
from decimal import Decimal, InvalidOperation

LEGAL_FORMS = {"ltd", "pvt", "llp", "and", "the"}


def log(text):
    print(text, file=sys.stderr, flush=True)


def read(text, columns, name):
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows:
        raise SystemExit(f"{name} has no rows")
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise SystemExit(f"{name} lacks the columns {', '.join(missing)}")
    for number, row in enumerate(rows, start=2):
        try:
            row["amount"] = Decimal(row["amount"].replace(",", ""))
        except InvalidOperation:
            raise SystemExit(f"{name}, line {number}: {row['amount']!r} is not an amount") from None
    return rows


def words(text):
    return {word for word in re.findall(r"[a-z]+", text.lower()) if word not in LEGAL_FORMS}


def match(invoices, payments):
    """First by the invoice number in the reference, then by payer and exact amount."""
    by_number = {re.sub(r"\W", "", row["invoice"]).lower(): row for row in invoices}
    paid = defaultdict(list)
    rest = []
    for payment in payments:
        reference = re.sub(r"\W", "", payment["reference"]).lower()
        hits = [row for number, row in by_number.items() if number in reference]
        if len(hits) == 1:
            paid[hits[0]["invoice"]].append((payment, "reference"))
        else:
            rest.append(payment)
    unexplained = []
    for payment in rest:
        candidates = [
            row
            for row in invoices
            if row["invoice"] not in paid
            and row["amount"] == payment["amount"]
            and words(row["customer"]) & words(payment["payer"])
        ]
        if len(candidates) == 1:
            paid[candidates[0]["invoice"]].append((payment, "payer and amount"))
        else:
            unexplained.append(payment)
    return paid, unexplained


def reconcile(invoices, payments, as_of):
    paid, unexplained = match(invoices, payments)
    result = {"matched": [], "short_paid": [], "paid_twice": [], "overdue": []}
    outstanding = Decimal(0)
    for row in invoices:
        received = sum((payment["amount"] for payment, _ in paid[row["invoice"]]), Decimal(0))
        open_amount = row["amount"] - received
        facts = {"invoice": row["invoice"], "customer": row["customer"], "amount": str(row["amount"])}
        if received == row["amount"]:
            result["matched"].append(facts | {"by": paid[row["invoice"]][0][1]})
        elif received > row["amount"]:
            result["paid_twice"].append(facts | {"received": str(received), "refund": str(-open_amount)})
        elif received > 0:
            result["short_paid"].append(facts | {"received": str(received), "missing": str(open_amount)})
        if open_amount > 0:
            outstanding += open_amount
            days = (as_of - date.fromisoformat(row["due"])).days
            if days > 0:
                result["overdue"].append(facts | {"open": str(open_amount), "days": days})
    result["overdue"].sort(key=lambda entry: -entry["days"])
    result["unexplained"] = [row | {"amount": str(row["amount"])} for row in unexplained]
    result["summary"] = {
        "invoiced": str(sum((row["amount"] for row in invoices), Decimal(0))),
        "received": str(sum((row["amount"] for row in payments), Decimal(0))),
        "outstanding": str(outstanding),
    }
    return result


inputs = json.load(sys.stdin)
invoices = read(inputs["invoices_csv"], ["invoice", "customer", "issued", "due", "amount"], "invoices_csv")
payments = read(inputs["statement_csv"], ["date", "reference", "payer", "amount"], "statement_csv")
log(f"{len(invoices)} invoices, {len(payments)} payments")
answer = reconcile(invoices, payments, date.fromisoformat(inputs["as_of"]))
log(", ".join(f"{len(answer[kind])} {kind}" for kind in ("matched", "overdue", "unexplained")))
json.dump(answer, sys.stdout)
