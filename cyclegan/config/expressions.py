"""Parts written as text: "10*l1 + 1*ms_ssim(window=7)" becomes terms, and terms become objects.

The grammar is a subset of Python, read by Python's own parser and never evaluated:

    expression = "none" | term ("+" term)*
    term       = [number "*"] name ["(" option "=" value ("," option "=" value)* ")"]
    name       = an alias from the slot's table, or an import path such as torch.nn.HuberLoss
    value      = a Python literal, or a bare word, which stands for itself as a string
"""

import ast
import difflib
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cyclegan.config.errors import UserError, short

# Every term takes this option, which distinguishes two terms of one name.
LABEL = "label"

# Longer expressions are refused: a pasted file must not come back as an equally long error.
LONGEST = 2000


@dataclass(frozen=True)
class Term:
    """One weighted part of an expression."""

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    # The command-line option that the term was written in; every error names it.
    option: str = field(default="", compare=False)
    # The column of the expression where the name begins, from 1.
    column: int = field(default=1, compare=False)
    # The expression as it was written.
    text: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """The term's name in the curves: the last word of its name, or the value of `label=`."""
        return str(self.options.get(LABEL, self.name.rpartition(".")[2]))


class Expression(tuple[Term, ...]):
    """The terms of an option, with the option's name and its text."""

    option: str
    text: str

    def __new__(cls, terms: Iterable[Term], *, option: str, text: str) -> "Expression":
        made = super().__new__(cls, terms)
        made.option, made.text = option, text
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tuple(self),), {"option": self.option, "text": self.text}


def parse(text: str, *, option: str) -> Expression:
    """Reads an expression; raises UserError, which names `option`, if the expression is outside
    the grammar, empty, or names one part twice.
    """
    return Expression(_parse(text, option), option=option, text=text)


def _parse(expression: str, slot: str) -> list[Term]:
    if expression.strip().lower() == "none":
        return []
    # In a file of options an expression may go over several lines.
    expression = " ".join(expression.split())
    if not expression:
        raise UserError(f"--{slot} is empty: write none for nothing")
    if len(expression) > LONGEST:
        raise UserError(f"--{slot} has {len(expression)} characters: {LONGEST} are the most")
    try:
        # Python warns about some of what it cannot read, such as 1if; the error says enough.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(
            f'--{slot} "{short(expression)}" cannot be read: {_reason(error)}'
        ) from None
    if ast.get_source_segment(expression, tree) != expression:
        # Python leaves out comments, and brackets round it all.
        raise UserError(
            f'--{slot} "{short(expression)}" holds brackets or a comment: leave them out'
        )
    terms = [_term(node, expression, slot) for node in _summands(tree)]
    labels = [term.label for term in terms]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(
                f'--{slot} "{short(expression)}" names {label} twice: give it one weight, or tell '
                f"the two apart in the curves, as {label}(label=other)"
            )
    return terms


def parse_one(text: str, *, option: str) -> Term:
    """Reads an expression that must be a single part without a weight, such as a network's."""
    terms = parse(text, option=option)
    if not terms:
        raise UserError(
            f"--{option} none: name one, or leave --{option} out; this part must be there"
        )
    if len(terms) != 1 or terms[0].weight != 1:
        raise UserError(f'--{option} "{text}" must name exactly one part, without a weight')
    return terms[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the most similar known word, ignoring case; '' if none is close."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""


def _summands(node: ast.expr) -> list[ast.expr]:
    summands = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        summands.append(node.right)
        node = node.left
    return [node, *reversed(summands)]


def _term(node: ast.expr, expression: str, slot: str) -> Term:
    weight = 1.0
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        weight = _weight(node.left, expression, slot)
        node = node.right
    options = {}
    if isinstance(node, ast.Call):
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise _outside(node, expression, slot, "options are written name=value")
        options = {str(k.arg): _value(k.value, expression, slot) for k in node.keywords}
        if len(options) < len(node.keywords):
            raise _outside(node, expression, slot, "an option is given twice")
        node = node.func
    name = _dotted(node, expression, slot)
    return Term(name, weight, options, slot, node.col_offset + 1, expression)


def _weight(node: ast.expr, expression: str, slot: str) -> float:
    value = node.value if isinstance(node, ast.Constant) else None
    # True is an int to Python; float() would overflow on an integer of 400 digits.
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= sys.float_info.max
    ):
        return float(value)
    raise _outside(node, expression, slot, "a weight is a number from 0 up, as in 10*l1")


def _value(node: ast.expr, expression: str, slot: str) -> Any:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False}.get(node.id, node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise _outside(node, expression, slot, "a value is a literal or a word") from None


def _dotted(node: ast.expr, expression: str, slot: str) -> str:
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise _outside(node, expression, slot, 'write terms like "10*l1 + 1*ssim(window=7)"')
    words.append(node.id)
    if any(word.startswith("_") for word in words):
        raise _outside(node, expression, slot, "names do not start with an underscore")
    return ".".join(reversed(words))


def _outside(node: ast.expr, expression: str, slot: str, rule: str) -> UserError:
    text = short(ast.get_source_segment(expression, node) or "?")
    where = f"{text} at column {node.col_offset + 1}"
    return UserError(f'--{slot} "{short(expression)}": {where}: {rule}')


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        # Where the text ends too early, Python points at no column of it.
        return f"{error.msg} at column {error.offset}" if error.offset else "it ends too early"
    return str(error) or "too deep"
