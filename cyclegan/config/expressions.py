"""Parts written as strings: "10*l1 + 1*ms_ssim(window=7)" becomes terms, and terms become objects.

The grammar is a subset of Python, read by Python's own parser and never evaluated:

    expression = "none" | term ("+" term)*
    term       = [number "*"] name ["(" option "=" value ("," option "=" value)* ")"]
    name       = an alias from the slot's table, or an import path such as torch.nn.HuberLoss
    value      = a Python literal, or a bare word, which stands for itself as a string
"""

import ast
import difflib
import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclegan.config.errors import UserError, explain, short

Table = Mapping[str, str]

# An option of every term that tells two of one name apart.
LABEL = "label"

# Nobody writes more; a pasted file is not to come back as an error of its length.
LONGEST = 2000


@dataclass(frozen=True)
class Term:
    """One weighted part of an expression."""

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    # The column of the expression where the name begins, from 1.
    column: int = field(default=1, compare=False)

    @property
    def label(self) -> str:
        """What the curves call this term: its name's last word, unless `label=` tells another."""
        return str(self.options.get(LABEL, self.name.rpartition(".")[2]))


def parse(expression: str, *, slot: str) -> list[Term]:
    """Reads an expression; `slot` is the option it came from, named in every error.

    Raises UserError where the expression is outside the grammar, empty, or names one part twice.
    """
    if expression.strip().lower() == "none":
        return []
    # In a file of options an expression may go over several lines.
    expression = " ".join(expression.split())
    if not expression:
        raise UserError(f"--{slot} is empty: write none for nothing")
    if len(expression) > LONGEST:
        raise UserError(f"--{slot} has {len(expression)} characters: {LONGEST} are the most")
    try:
        # Of some of what it cannot read, as 1if, Python would say something on its own as well.
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


def parse_one(expression: str, *, slot: str) -> Term:
    """Reads an expression that must be a single part without a weight, such as a network's."""
    terms = parse(expression, slot=slot)
    if not terms:
        raise UserError(f"--{slot} none: name one, or leave --{slot} out; this part must be there")
    if len(terms) != 1 or terms[0].weight != 1:
        raise UserError(f'--{slot} "{expression}" must name exactly one part, without a weight')
    return terms[0]


def build(term: Term, table: Table, *, slot: str, trusted: bool = True, **defaults: Any) -> Any:
    """Makes the object a term names, from its options and those defaults that it accepts.

    A function that itself needs arguments, such as torch.nn.functional.l1_loss, is the part, with
    its options bound. With trusted=False (an expression out of somebody's file) only names in the
    table are built: an import path could run any code on this machine.
    """
    factory = find(term, table, slot=slot, trusted=trusted)
    accepted = _parameters(factory)
    if accepted is not None:
        for option in term.options:
            if option not in accepted:
                known = f"it knows {', '.join(accepted)}" if accepted else "it takes none"
                where = f"{term.name} at column {term.column}"
                hint = nearest(option, accepted)
                raise UserError(f"--{slot}: {where} has no option {option}{hint}; {known}")
        defaults = {name: value for name, value in defaults.items() if name in accepted}
    if _needs_arguments(factory):
        return functools.partial(factory, **term.options)
    _check_types(factory, term, slot)
    try:
        return factory(**{**defaults, **term.options})
    except UserError:
        raise
    # What somebody's own part raises may be anything.
    except (Exception, SystemExit) as error:
        raise UserError(f"--{slot}: {term.name} cannot be made: {explain(error)}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the known word most like this one whatever its case, or nothing."""
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
    return Term(_dotted(node, expression, slot), weight, options, node.col_offset + 1)


def _check_types(factory: Callable[..., Any], term: Term, slot: str) -> None:
    """Raises UserError where a word or a yes stands for a number, or a number for a yes. Parts of
    this package see to that themselves, and know what they take.
    """
    if str(getattr(factory, "__module__", "")).startswith("cyclegan."):
        return
    try:
        parameters = inspect.signature(factory).parameters
    except (ValueError, TypeError):
        return
    for option, value in term.options.items():
        default = parameters[option].default if option in parameters else None
        wanted = {bool: "true or false", int: "a number", float: "a number"}.get(type(default))
        word_or_flag = isinstance(value, str | bool)
        if wanted and word_or_flag and not (isinstance(default, bool) and isinstance(value, bool)):
            raise UserError(f"--{slot}: {term.name}: {option}={value} must be {wanted}")


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


def find(term: Term, table: Table, *, slot: str, trusted: bool) -> Callable[..., Any]:
    name = term.name
    path = table.get(name)
    if path is None:
        if "." not in name:
            where = f"unknown {short(name)} at column {term.column}"
            known = ", ".join(table)
            raise UserError(f"--{slot}: {where}{nearest(name, table)}; known: {known}")
        if not trusted:
            raise UserError(
                f"--{slot}: {name} is an import path in a saved file, which could run any code: "
                "use --trust_imports if you trust the file's maker"
            )
        path = name
    return _import(path, slot=slot)


def _import(path: str, *, slot: str) -> Callable[..., Any]:
    module_name, _, attribute = path.rpartition(".")
    here = str(Path.cwd())
    # A part of the user's own stands in the working folder, wherever the command itself lies.
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    # A module of the user's own may raise anything.
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and str(error.name) in module_name:
            raise UserError(f"--{slot}: {path} is not there: no module {error.name}") from None
        why = explain(error)
        raise UserError(f"--{slot}: module {module_name} cannot be imported: {why}") from error
    if not hasattr(module, attribute):
        hint = nearest(attribute, dir(module))
        # A file of the user's own may be hidden by an installed module of its name.
        where = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
        raise UserError(f"--{slot}: module {module_name}{where} has no {attribute}{hint}")
    found = getattr(module, attribute)
    if not callable(found):
        raise UserError(f"--{slot}: {path} is not a class or function")
    return found  # type: ignore[no-any-return]


def _needs_arguments(factory: Callable[..., Any]) -> bool:
    """Whether it is a function that cannot be called without arguments."""
    if not inspect.isroutine(factory):
        return False
    required = inspect.Parameter.empty
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (ValueError, TypeError):
        return False
    return any(p.default is required and p.kind in kinds for p in parameters)


def _parameters(factory: Callable[..., Any]) -> list[str] | None:
    """The options a factory takes by keyword; None where it takes any, or does not tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (ValueError, TypeError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in by_keyword]
