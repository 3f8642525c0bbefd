"""How fast FEEL is: ``python -m bench.feel``.

Prints the microseconds of one evaluation of pre-parsed expressions (median of several rounds), of
parsing one, and how long the default budget lets a hostile expression run.
"""

import statistics
import time
import timeit

from workflows.feel import FeelBudgetError, evaluate, parse_expression, to_feel

CONTEXT = {
    "amount": 250,
    "status": "approved",
    "due": "2026-03-01",
    "order": {
        "customer": {"tier": "gold"},
        "items": [{"price": price, "sku": f"s{price}"} for price in range(20)],
    },
}
EXPRESSIONS = [
    "amount > 100",
    'status = "approved"',
    'amount > 100 and status = "approved"',
    "amount in [100..500]",
    'order.customer.tier in ("gold", "platinum")',
    'if amount > 1000 then "director" else "manager"',
    'date(due) + duration("P1M") > @"2026-03-15"',
    "sum(order.items.price)",
    "count(order.items[price > 10]) >= 2",
    "every item in order.items satisfies item.price < 100",
]
ROUNDS = 7
PARSE = 'parse("amount > 100")'


def microseconds(statement: str, scope: dict[str, object], number: int) -> float:
    runs = timeit.repeat(statement, globals=scope, number=number, repeat=ROUNDS)
    return statistics.median(runs) / number * 1e6


def main() -> None:
    context = to_feel(CONTEXT)
    print(f"{'pre-parsed expression':58}    us")
    for text in EXPRESSIONS:
        scope: dict[str, object] = {"e": parse_expression(text), "c": context, "evaluate": evaluate}
        print(f"{text:58} {microseconds('evaluate(e, c)', scope, 5_000):8.2f}")
    parsing: dict[str, object] = {"parse": parse_expression}
    print(f"{'parsing amount > 100':58} {microseconds(PARSE, parsing, 500):8.2f}")
    started = time.perf_counter()
    try:
        evaluate(parse_expression("for i in 1..1000000000 return i * 2"), {})
    except FeelBudgetError as error:
        print(f"a loop of 10**9 rounds ends after {time.perf_counter() - started:.2f} s: {error.message}")


if __name__ == "__main__":
    main()
