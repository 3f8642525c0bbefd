"""XPath regular expressions (XPath and XQuery Functions and Operators §7.6.1), with bounded work.

Python's `re` backtracks without limit and speaks another dialect, so the patterns of FEEL run on a
small machine of our own: the pattern becomes a program (`syntax`, `machine`), each step of which is
charged to the evaluation's budget. Patterns without back-references never try the same program
position at the same text position twice, so their work grows with the product of both lengths.
"""

from workflows.feel.regex.machine import Match, Pattern, compile_pattern
from workflows.feel.regex.replacement import parse_replacement
from workflows.feel.regex.syntax import RegexError

__all__ = ["Match", "Pattern", "RegexError", "compile_pattern", "parse_replacement"]
