"""Broken copies of good files, and text that is nearly an expression: all from one random source."""

import random

_TOKENS = [
    b"<", b">", b"/>", b"</", b'"', b"&", b"&amp;", b"&#x0;", b"&#x110000;", b"<![CDATA[", b"]]>",
    b"<!--", b"-->", b"<?xml?>", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b" xmlns=''", b" id=''",
    b" id='a'", b"xsi:type='x'", b"true", b"false", b"-1", b"999999999999999999999", b"1e999", b"PT0S",
    b"R/PT0S", b"R5/P1Y", b"${", b"=", b"\xf0\x9f\x90\x8e", b"\xed\xa0\x80", b"null", b"process",
    b"subProcess", b"task", b"default=",
]  # fmt: skip

_FEEL = [
    "for ", "if ", " then ", " else ", " return ", "some ", "every ", " satisfies ", " in ", " and ",
    " or ", " between ", " instance of ", "function(", "list<", "context<", "range<", "number",
    "date and time", "string", " external ", "(", ")", "[", "]", "{", "}", ",", ":", ".", "..", "+", "-",
    "*", "/", "**", "=", "!=", "<", "<=", ">", '"', "\\u", "\\U01F40E", '@"2020-01-01"', '@"PT1H"', "//",
    "/*", "*/", "?", "not(", "null", "true", "->", "1", "0.5", "1e400", "9" * 40, "a", "item", "partial",
    "two words", "\n", " ", "\ud800", "\u00a0", "'", "xs", "xs[", "order.", "order",
    "for i in 1..9999999999 return ", "xs[item >", "a ** ",
]  # fmt: skip

_SIMPLE = [
    "a", "xs", "order", "null", "true", "1", "-3", "0.1", "1e20", '"text"', '"a+b*"', '@"2020-02-29"',
    '@"23:59:60"', '@"2020-01-01T00:00:00@Europe/Paris"', '@"P1Y2M"', '@"-P3DT4H"', "[1,2,3]", "[]", "{}",
    "{a: 1, b: {c: 2}}", "[1..10]", "(a..5]", "function(x) x + a", '["b","a"]', "1..5", "now()",
    "order.items", 'string join(xs, "x")', "9" * 34, "1e-400", "date(2020, 2, 30)",
]  # fmt: skip
_OPERATORS = [" + ", " - ", " * ", " / ", " ** ", " = ", " < ", " >= ", " and ", " or ", " in ", ", "]


def broken_copy(source: bytes, pick: random.Random) -> bytes:
    """Return a copy with some bytes, tokens or slices changed."""
    data = bytearray(source)
    for _ in range(pick.choice([1, 1, 2, 3, 8, 30])):
        at = pick.randrange(len(data) + 1)
        match pick.randrange(8):
            case 0:
                data[at:at] = pick.choice(_TOKENS)
            case 1:
                del data[at : at + pick.choice([1, 3, 20, 400])]
            case 2:
                end = at + pick.choice([5, 60, 500])
                other = pick.randrange(len(data) + 1)
                data[other:other] = data[at:end]
            case 3 if data:
                data[at % len(data)] = pick.randrange(256)
            case 4:
                end = at + pick.choice([2, 10, 60])
                data[at:end] = pick.choice(_TOKENS) * pick.choice([1, 2, 200])
            case 5:
                slice_ = bytes(data[at : at + pick.choice([10, 100, 1000])])
                data[at:at] = slice_ * pick.choice([1, 5, 60])
            case 6:
                quote = data.find(b'"', at)
                end = data.find(b'"', quote + 1)
                if 0 <= quote < end:
                    data[quote + 1 : end] = pick.choice(_TOKENS) * pick.choice([1, 1, 500])
            case _:
                other = pick.randrange(len(data) + 1)
                low, high = sorted((at, other))
                data[low:high] = data[low:high][::-1] if pick.random() < 0.2 else data[low : low + 40]
    text = bytes(data)
    if pick.random() < 0.05:
        text = text.decode("utf-8", "replace").encode(pick.choice(["utf-16", "utf-16-be", "utf-32"]))
    return text


def nearly_feel(pick: random.Random, samples: list[str]) -> str:
    """Return text that is FEEL now and then: grown, or a broken copy of a sample."""
    kind = pick.random()
    if kind < 0.45:
        return _grown(pick, pick.randrange(5))
    if kind < 0.7:
        return "".join(pick.choice(_FEEL) for _ in range(pick.randrange(30)))
    text = pick.choice(samples)
    for _ in range(pick.choice([1, 2, 5])):
        at = pick.randrange(len(text) + 1)
        if pick.random() < 0.4:
            text = text[:at] + text[at + pick.choice([1, 2, 6]) :]
        else:
            text = text[:at] + pick.choice(_FEEL + _SIMPLE) * pick.choice([1, 1, 1, 40]) + text[at:]
    return text


def _grown(pick: random.Random, depth: int) -> str:
    """Return a well-formed expression, of any types."""
    if depth == 0:
        return pick.choice(_SIMPLE)
    inner = [_grown(pick, depth - 1) for _ in range(3)]
    a, b, c = inner
    return pick.choice(
        [
            f"({a}{pick.choice(_OPERATORS[:-1])}{b})",
            f"if {a} then {b} else {c}",
            f"for i in {a} return ({b} + i)",
            f"for i in {a}..{b}, j in {c} return [i, j, partial]",
            f"some i in {a} satisfies {b}",
            f"every i in {a}, j in {b} satisfies i = j",
            f"({a})[{b}]",
            f"({a})[item > {b}]",
            f"[{a}, {b}, {c}]",
            f"{{a: {a}, b: {b}, c: a}}",
            f"{{f: function(x, y) {a}, r: f({b}, {c})}}.r",
            f"({a}).a",
            f"({a}) between {b} and {c}",
            f"({a}) in ({b}, {c})",
            f"({a}) instance of {pick.choice(_TYPES)}",
            f"{pick.choice(_BUILTINS)}({pick.choice([a, f'{a}, {b}', f'{a}, {b}, {c}'])})",
            f"-({a})",
        ]
    )


_TYPES = ["number", "list<string>", "context<a: number>", "range<date>"]
_BUILTINS = [
    "date", "time", "date and time", "duration", "years and months duration", "number", "string", "not",
    "substring", "string length", "upper case", "lower case", "substring before", "substring after",
    "replace", "contains", "starts with", "ends with", "matches", "split", "string join", "list contains",
    "list replace", "count", "min", "max", "sum", "mean", "all", "any", "sublist", "append",
    "concatenate", "insert before", "remove", "reverse", "index of", "union", "distinct values",
    "flatten", "product", "median", "stddev", "mode", "decimal", "floor", "ceiling", "round up",
    "round half even", "abs", "modulo", "sqrt", "log", "exp", "odd", "even", "is", "before", "after",
    "meets", "overlaps", "includes", "during", "starts", "finishes", "coincides", "range", "day of year",
    "day of week", "month of year", "week of year", "get value", "get entries", "context", "context put",
    "context merge", "sort",
]  # fmt: skip
