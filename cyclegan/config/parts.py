"""From a term to the object that it names: by a short name in a table, or by its import path."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cyclegan.config.errors import UserError, explain, short
from cyclegan.config.expressions import Term, nearest

Table = Mapping[str, str]


def refuse_import_paths(terms: Iterable[Term]) -> None:
    """Raises UserError if a term of somebody else's file is an import path: to import it could run
    any code on this machine.
    """
    for term in terms:
        if "." in term.name:
            raise UserError(
                f"--{term.option}: {term.name} is an import path in a saved file, which could run "
                "any code: use --trust_imports if you trust the file's maker"
            )


def build(term: Term, table: Table, **defaults: Any) -> Any:
    """Makes the object that a term names, from its options and those defaults that it accepts.

    A function that needs arguments itself, such as torch.nn.functional.l1_loss, is the part, with
    its options bound.
    """
    factory, slot = find(term, table), term.option
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
    # A part of the user's own may raise anything.
    except (Exception, SystemExit) as error:
        raise UserError(f"--{slot}: {term.name} cannot be made: {explain(error)}") from error


def find(term: Term, table: Table) -> Callable[..., Any]:
    """The class or function that a term names: by its short name in the table, or by its import
    path.
    """
    name = term.name
    if name not in table and "." not in name:
        where = f"unknown {short(name)} at column {term.column}"
        known = ", ".join(table)
        raise UserError(f"--{term.option}: {where}{nearest(name, table)}; known: {known}")
    return _import(table.get(name, name), slot=term.option)


def _check_types(factory: Callable[..., Any], term: Term, slot: str) -> None:
    """Raises UserError if a word or a flag stands for a number, or a number for a flag. Parts of
    this package check their options themselves.
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


def _import(path: str, *, slot: str) -> Callable[..., Any]:
    module_name, _, attribute = path.rpartition(".")
    here = str(Path.cwd())
    # A part of the user's own lies in the working folder, wherever the command itself lies.
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
        # An installed module may hide the user's file of the same name.
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
    """The options that a factory takes by keyword; None if it takes any, or does not tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (ValueError, TypeError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in by_keyword]
