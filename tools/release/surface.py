"""Lists the public names of packages and the parameters of what can be called, and compares them
with an earlier version.

Public are the names without a leading underscore that a public module defines or re-exports as
`name as name`, and such attributes of public classes. An argument is deprecated if its description
contains that word, an attribute if the first line of its docstring does, and a name of a module if
the module's `__getattr__` gives it with a DeprecationWarning.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict


class Surface(TypedDict):
    """Holds what one version of a package promises."""

    version: str
    deprecated: list[str]  # Names, and arguments as `name(argument)`.
    names: list[str]  # What cannot be called, and re-exports of other packages.
    callables: dict[str, str]  # The parameters of each, with `...` for defaults.


def own(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).startswith("pdequinox")


def public_modules(package: str) -> list[ModuleType]:
    root = importlib.import_module(package)
    names = [module.name for module in pkgutil.walk_packages(root.__path__, f"{package}.")]
    public = [name for name in names if not any(part[0] == "_" for part in name.split("."))]
    return [root, *map(importlib.import_module, public)]


def module_names(module: ModuleType) -> set[str]:
    assert module.__file__ is not None
    names: list[str] = []
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names if alias.asname == alias.name]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return {name for name in names if name[0] != "_"}


def attributes(cls: type) -> set[str]:
    """Lists the public attributes that the project gives a class, and all fields of instances."""
    names: set[str] = set()
    for base in filter(own, cls.__mro__):
        names |= {*vars(base), *vars(base).get("__dataclass_fields__", {})}
    return {name for name in names if name[0] != "_" or name == "__call__"}


def find(name: str) -> tuple[Any, Any]:
    """Finds the object of a dotted name, and the object that it is an attribute of. The object is
    `None` for what only instances have. Raises `AttributeError` or `ModuleNotFoundError`.
    """
    first, *rest = name.split(".")
    holder, value = None, importlib.import_module(first)
    for part in rest:
        if isinstance(value, ModuleType) and not hasattr(value, part):
            with suppress(ModuleNotFoundError):
                importlib.import_module(f"{value.__name__}.{part}")
        of_instances = inspect.isclass(value) and part in attributes(value)
        holder, value = value, getattr(value, part, None) if of_instances else getattr(value, part)
    return value, holder


def signature(name: str) -> inspect.Signature | None:
    """Gives the parameters of a function, class or method, without annotations. `None` for other
    objects, and for classes without an `__init__` in Python, as most exceptions are.
    """
    value, holder = find(name)
    # A cached property is a routine to Python, from 3.13 on one of the module of its function.
    if not callable(value):
        return None
    inner = inspect.unwrap(value)
    if not (own(inner) and (inspect.isclass(inner) or inspect.isroutine(inner))):
        return None
    try:
        parameters = [*inspect.signature(value).parameters.values()]
    except ValueError:
        return None
    if inspect.isclass(holder) and not inspect.isclass(value):
        static = inspect.getattr_static(holder, name.rpartition(".")[2])
        if not isinstance(static, classmethod | staticmethod):
            parameters = parameters[1:]  # Without `self`.
    plain = [
        p.replace(annotation=p.empty, default=p.default if p.default is p.empty else ...)
        for p in parameters
    ]
    return inspect.Signature(plain)


def parsed(parameters: str) -> inspect.Signature:
    """Reads recorded parameters, which are in Python's own notation."""
    return inspect.signature(eval(f"lambda {parameters}: None"))


def is_deprecated(text: str) -> bool:
    return re.search(r"\bdeprecated\b", text, re.IGNORECASE) is not None


def deprecated_arguments(value: Any) -> list[str]:
    described = value.__init__ if inspect.isclass(value) else value
    items = re.findall(
        r"^- `(\w+)`: (.*(?:\n +.*)*)", inspect.cleandoc(described.__doc__ or ""), re.MULTILINE
    )
    return [argument for argument, words in items if is_deprecated(words)]


def warns(name: str) -> bool:
    """Tells whether a name can be had, with a DeprecationWarning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(AttributeError, ModuleNotFoundError):
            find(name)
            return any(issubclass(warning.category, DeprecationWarning) for warning in caught)
    return False


def surface(package: str, before: Surface | None) -> Surface:
    """Lists what an import package has. Names that only its `__getattr__` gives are looked for
    among those of the previous record, `before`.
    """
    names, callables, deprecated = set(), {}, set()
    for module in public_modules(package):
        for short in module_names(module):
            name, value = f"{module.__name__}.{short}", getattr(module, short)
            if getattr(value, "__module__", package).partition(".")[0] != package:
                names.add(name)
                continue
            members = attributes(value) if inspect.isclass(value) and own(value) else set()
            for member in (name, *(f"{name}.{attribute}" for attribute in members)):
                found, _ = find(member)
                called = signature(member)
                if called is None:
                    names.add(member)
                else:
                    callables[member] = str(called)[1:-1].replace("Ellipsis", "...")
                    deprecated |= {f"{member}({a})" for a in deprecated_arguments(found)}
                described = called is not None or isinstance(found, property)
                first = (found.__doc__ or "").strip().partition("\n")[0] if described else ""
                deprecated |= {member} if is_deprecated(first) else set()
    recorded = {*before["names"], *before["callables"]} if before else set()
    unseen = {name for name in recorded - names - callables.keys() if warns(name)}
    return Surface(
        version=importlib.import_module(package).__version__,
        deprecated=sorted(deprecated | unseen),
        names=sorted(names | unseen),
        callables=dict(sorted(callables.items())),
    )


def refused(before: inspect.Signature, now: inspect.Signature, gone: set[str]) -> set[str]:
    """Tells why `now` refuses calls that `before` accepts: those with all arguments or only the
    required ones, by position where possible or by name. Arguments in `gone` may be missing.
    """
    kept = [p for p in before.parameters.values() if p.name in now.parameters or p.name not in gone]
    reasons = set()
    for by_name in (False, True):
        for few in (False, True):
            positional, named = [], {}
            for p in kept:
                if few and p.default is not p.empty:
                    continue
                # The values are the names that callers may use, to see where they arrive.
                if p.kind is p.VAR_POSITIONAL:
                    positional += [] if few or by_name else [...]
                elif p.kind is p.VAR_KEYWORD:
                    named |= {} if few else {f"any_{p.name}": p.name}
                elif p.kind is p.KEYWORD_ONLY or (by_name and p.kind is p.POSITIONAL_OR_KEYWORD):
                    named[p.name] = p.name
                else:
                    positional.append(... if p.kind is p.POSITIONAL_ONLY else p.name)
            try:
                arrived = now.bind(*positional, **named).arguments
            except TypeError as error:
                reasons.add(str(error))
                continue
            reasons |= {
                f"{value!r} in its place is taken for {name!r}"
                for name, value in arrived.items()
                if isinstance(value, str) and value != name
            }
    return reasons


def missing(before: Surface) -> Iterator[str]:
    """Says what the packages that are imported here do not keep of a recorded surface, except for
    what was deprecated in it.
    """
    for name in (*before["names"], *before["callables"]):
        if name in before["deprecated"]:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                find(name)
            except (AttributeError, ModuleNotFoundError):
                yield f"{name} is gone"
                continue
            called = signature(name)
        if name not in before["callables"]:
            continue
        if called is None:
            yield f"{name} cannot be called any more"
            continue
        then = parsed(before["callables"][name])
        gone = {a for a in then.parameters if f"{name}({a})" in before["deprecated"]}
        for reason in sorted(refused(then, called, gone)):
            yield f"{name}: {reason}"
