"""From a term to the object that it names, by a short name in a table or by an import path."""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from pathlib import Path
from typing import Any

from cyclegan.config.errors import UserError, explain, shorten
from cyclegan.config.expressions import Term, nearest

Table = Mapping[str, str]


def build(term: Term, table: Table, **defaults: Any) -> Any:
    """Makes the object that a term names, from its options and those defaults that it accepts.

    A function that has required arguments, such as torch.nn.functional.l1_loss, is itself the part,
    with the options bound. Raises UserError if the part cannot be found or made.
    """
    factory, slot = find(term, table), term.option
    parameters = _parameters(factory)
    accepted = _keywords(parameters)
    if accepted is not None:
        for option in term.options:
            if option not in accepted:
                known = f"it knows {', '.join(accepted)}" if accepted else "it takes none"
                where = f"{term.name} at column {term.column}"
                hint = nearest(option, accepted)
                raise UserError(f"--{slot}: {where} has no option {option}{hint}; {known}")
        defaults = {name: value for name, value in defaults.items() if name in accepted}
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters.values() if p.default is p.empty and p.kind in positional]
    if required and inspect.isroutine(factory):
        return functools.partial(factory, **term.options)
    # This package's parts check their options themselves.
    if not str(getattr(factory, "__module__", "")).startswith("cyclegan."):
        _check_types(parameters, term)
    try:
        return factory(**{**defaults, **term.options})
    except UserError:
        raise
    # A user's part may raise anything.
    except (Exception, SystemExit) as error:
        raise UserError(f"--{slot}: {term.name} cannot be made: {explain(error)}") from error


def find(term: Term, table: Table) -> Callable[..., Any]:
    """The class or function that a term names; raises UserError if there is none."""
    name = term.name
    if name not in table and "." not in name:
        where = f"unknown {shorten(name)} at column {term.column}"
        known = ", ".join(table)
        raise UserError(f"--{term.option}: {where}{nearest(name, table)}; known: {known}")
    return _import(table.get(name, name), slot=term.option)


def refuse_import_paths(terms: Iterable[Term]) -> None:
    """Raises UserError if a term from a saved file is an import path, which could run any code."""
    for term in terms:
        if "." in term.name:
            raise UserError(
                f"--{term.option}: {term.name} is an import path in a saved file, which could run "
                "any code: use --trust_imports if you trust the file's maker"
            )


def _import(path: str, *, slot: str) -> Callable[..., Any]:
    module_name, _, attribute = path.rpartition(".")
    # Users' own parts are found in the working folder.
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(module_name)
    # A user's module may raise anything.
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


def _parameters(factory: Callable[..., Any]) -> Mapping[str, Parameter]:
    """The parameters of a factory; `**options` if it does not tell them. A class of this package
    passes its own `**options` to its base class.
    """
    try:
        parameters = inspect.signature(factory).parameters
    except (ValueError, TypeError):
        return {"options": Parameter("options", Parameter.VAR_KEYWORD)}
    if not isinstance(factory, type) or not factory.__module__.startswith("cyclegan."):
        return parameters
    if _keywords(parameters) is not None:
        return parameters
    own = {n: p for n, p in parameters.items() if p.kind is not Parameter.VAR_KEYWORD}
    return {**own, **_parameters(factory.__mro__[1]), **own}


def _keywords(parameters: Mapping[str, Parameter]) -> list[str] | None:
    """The parameters that can be given by keyword; None if there is `**options`."""
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [name for name, parameter in parameters.items() if parameter.kind in kinds]


def _check_types(parameters: Mapping[str, Parameter], term: Term) -> None:
    """Raises UserError if a number is given as a word or flag, or a flag as a word."""
    for option, value in term.options.items():
        default = parameters[option].default if option in parameters else None
        wanted = {bool: "true or false", int: "a number", float: "a number"}.get(type(default))
        word_or_flag = isinstance(value, str | bool)
        if wanted and word_or_flag and not (isinstance(default, bool) and isinstance(value, bool)):
            raise UserError(f"--{term.option}: {term.name}: {option}={value} must be {wanted}")
