"""Parts written as text: "10*l1 + 1*ms_ssim(window=7)" becomes a list of terms.

The grammar is a subset of Python, read by Python's own parser and never evaluated:

    expression = "none" | term ("+" term)*
    term       = [number "*"] name ["(" option "=" value ("," option "=" value)* ")"]
    name       = a short name from a table, or an import path such as torch.nn.HuberLoss
    value      = a Python literal, or a bare word, which stands for itself as a string
"""

import ast
import difflib
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cyclegan.config.errors import UserError, shorten

# Every term takes this option, which distinguishes two terms of one name.
LABEL = "label"

# Longer expressions are refused: a pasted file must not come back as an equally long error.
MAX_LENGTH = 2000


@dataclass(frozen=True)
class Term:
    """One weighted part of an expression."""

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    # For error messages: the command-line option, the name's column from 1, the whole expression.
    option: str = field(default="", compare=False)
    column: int = field(default=1, compare=False)
    text: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """The term's name in the curves: the last word of its name, or the value of `label=`."""
        return str(self.options.get(LABEL, self.name.rpartition(".")[2]))


class Expression(tuple[Term, ...]):
    """The terms of an option, with the option's name and the text that was written."""

    option: str
    text: str

    def __new__(cls, terms: Iterable[Term], *, option: str, text: str) -> "Expression":
        made = super().__new__(cls, terms)
        made.option, made.text = option, text
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tuple(self),), {"option": self.option, "text": self.text}


def parse(text: str, *, option: str) -> Expression:
    """Reads an expression.

    Raises UserError, which names `option`, if the expression is outside the grammar, is empty, or
    names one part twice.
    """
    # In a YAML file an expression may span several lines.
    line = " ".join(text.split())
    if line.lower() == "none":
        return Expression([], option=option, text=text)
    if not line:
        raise UserError(f"--{option} is empty: write none for nothing")
    if len(line) > MAX_LENGTH:
        raise UserError(f"--{option} has {len(line)} characters, more than {MAX_LENGTH}")
    return Expression(_Reader(line, option).terms(), option=option, text=text)


def parse_one(text: str, *, option: str) -> Term:
    """Reads an expression that must be a single part without a weight, such as a network's."""
    terms = parse(text, option=option)
    if not terms:
        raise UserError(f"--{option} none: name a part, as it cannot be left out")
    if len(terms) != 1 or terms[0].weight != 1:
        raise UserError(f'--{option} "{text}" must name exactly one part, without a weight')
    return terms[0]


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the most similar known word, ignoring case; '' if none is close."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]}?)" if close else ""


@dataclass(frozen=True)
class _Reader:
    text: str
    option: str

    def terms(self) -> list[Term]:
        terms = [self._term(node) for node in _summands(self._tree())]
        labels = [term.label for term in terms]
        for label in labels:
            if labels.count(label) > 1:
                raise self._error(
                    f" names {label} twice: give it one weight, or distinguish the two in the "
                    f"curves, as {label}(label=other)"
                )
        return terms

    def _tree(self) -> ast.expr:
        try:
            # Python warns about text such as 1if; the error says enough.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._error(f" cannot be read: {_reason(error)}") from None
        if ast.get_source_segment(self.text, tree) != self.text:
            # Python's parser drops comments, and brackets around the whole expression.
            raise self._error(" holds brackets or a comment: leave them out")
        return tree

    def _term(self, node: ast.expr) -> Term:
        weight = 1.0
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            weight = self._weight(node.left)
            node = node.right
        options = {}
        if isinstance(node, ast.Call):
            if node.args or any(keyword.arg is None for keyword in node.keywords):
                raise self._error_at(node, "options are written name=value")
            options = {str(keyword.arg): self._value(keyword.value) for keyword in node.keywords}
            if len(options) < len(node.keywords):
                raise self._error_at(node, "an option is given twice")
            node = node.func
        name = self._name(node)
        return Term(name, weight, options, self.option, node.col_offset + 1, self.text)

    def _weight(self, node: ast.expr) -> float:
        value = node.value if isinstance(node, ast.Constant) else None
        # float() would overflow on an integer of 400 digits.
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not 0 <= value <= sys.float_info.max
        ):
            raise self._error_at(node, "a weight is a number from 0 up, as in 10*l1")
        return float(value)

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return {"true": True, "false": False}.get(node.id, node.id)
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise self._error_at(node, "a value is a literal or a word") from None

    def _name(self, node: ast.expr) -> str:
        words: list[str] = []
        while isinstance(node, ast.Attribute):
            words.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            raise self._error_at(node, 'write terms like "10*l1 + 1*ssim(window=7)"')
        words.insert(0, node.id)
        if any(word.startswith("_") for word in words):
            raise self._error_at(node, "names do not start with an underscore")
        return ".".join(words)

    def _error_at(self, node: ast.expr, rule: str) -> UserError:
        text = shorten(ast.get_source_segment(self.text, node) or "?")
        return self._error(f": {text} at column {node.col_offset + 1}: {rule}")

    def _error(self, rest: str) -> UserError:
        return UserError(f'--{self.option} "{shorten(self.text)}"{rest}')


def _summands(node: ast.expr) -> list[ast.expr]:
    summands = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        summands.append(node.right)
        node = node.left
    return [node, *reversed(summands)]


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        # Without a column, the text ends too early.
        return f"{error.msg} at column {error.offset}" if error.offset else "it ends too early"
    return str(error) or "too deep"
