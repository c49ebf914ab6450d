"""The docstrings and signatures of the public API -> docs/api.md.

python docs/build_api.py
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).with_name("api.md")
MODULES = ("nla.fitting", "nla.losses", "nla.serving", "nla.methods", "nla.errors")
"""Documented after `nla` itself, which re-exports some of their names."""
INTRODUCTION = """# Python API

Made by `make docs` from the docstrings. These names are public: a release that changes them says so in the
[changelog](../CHANGELOG.md). Everything else may change at any time.

Shapes are suffixes: `N` images or samples, `C` classes, `H`, `W` height and width; `p_NC` has shape [N, C]."""
HEADINGS = re.compile(r"(Args|Returns|Raises|Yields|Attributes):$")
ITEM = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*): (.*)")


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page())


def page() -> str:
    """Text of docs/api.md."""
    package = importlib.import_module("nla")
    modules = [importlib.import_module(name) for name in MODULES]
    homes = {id(getattr(module, name)): module for module in modules for name in public_names(module)}
    lines = [INTRODUCTION, "", "## nla", "", *paragraphs(package)]
    for name in public_names(package):
        value = getattr(package, name)
        home = homes.get(id(value))
        lines += [f"- [`nla.{name}`](#{anchor(home.__name__, name)})"] if home else ["", *entry("nla", name, value)]
    for module in modules:
        lines += ["", f"## {module.__name__}", "", *paragraphs(module)]
        for name in public_names(module):
            lines += ["", *entry(module.__name__, name, getattr(module, name))]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def public_names(module: ModuleType) -> list[str]:
    """Returns `__all__`, or else the classes that the module defines, in their order."""
    if listed := getattr(module, "__all__", None):
        return sorted(listed)
    return [name for name, value in vars(module).items() if inspect.isclass(value) and is_of(module, value)]


def is_of(module: ModuleType, value: Any) -> bool:
    """Whether the module defines the value itself."""
    return bool(getattr(value, "__module__", None) == module.__name__)


def anchor(module: str, name: str) -> str:
    """Id of the heading of a name, as GitHub makes it."""
    return re.sub(r"[^\w-]", "", f"{module}{name}".lower())


def entry(module: str, name: str, value: Any) -> Iterator[str]:
    """The section of a class, a function or a registry."""
    yield from (f"### {module}.{name}", "")
    if isinstance(value, dict):
        yield f"Registry with the names {', '.join(f'`{key}`' for key in value)}."
        return
    node = definition(value)
    yield from ("```py", signature(node), "```", "")
    yield from paragraphs(node)
    if isinstance(node, ast.ClassDef):
        yield from members(node)


def definition(value: Any) -> ast.ClassDef | ast.FunctionDef:
    """The syntax tree of a class or function."""
    (node,) = ast.parse(inspect.getsource(value)).body
    assert isinstance(node, ast.ClassDef | ast.FunctionDef), value
    return node


def signature(node: ast.ClassDef | ast.FunctionDef, prefix: str = "") -> str:
    """`name(arguments) -> type`, one argument a line if it is long; that of a class is its constructor's."""
    function = node if isinstance(node, ast.FunctionDef) else method(node, "__init__")
    arguments = arguments_of(function) if function else []
    bases = f"  # {', '.join(map(ast.unparse, node.bases))}" if isinstance(node, ast.ClassDef) and node.bases else ""
    result = f" -> {ast.unparse(node.returns)}" if isinstance(node, ast.FunctionDef) and node.returns else ""
    head = f"{'class ' if isinstance(node, ast.ClassDef) else ''}{prefix}{node.name}"
    if function is None:
        return f"{head}{bases}"
    line = f"{head}({', '.join(arguments)}){result}{bases}"
    if len(line) <= 100:
        return line
    return "\n".join([f"{head}({bases}", *(f"    {argument}," for argument in arguments), f"){result}"])


def arguments_of(function: ast.FunctionDef) -> list[str]:
    """The arguments with annotations and defaults, without self and cls."""
    given, defaults = function.args, function.args.defaults
    plain = [*given.posonlyargs, *given.args]
    values = [None] * (len(plain) - len(defaults)) + [*defaults]
    found = [argument(arg, value) for arg, value in zip(plain, values, strict=True) if arg.arg not in ("self", "cls")]
    if given.vararg:
        found.append(f"*{ast.unparse(given.vararg)}")
    elif given.kwonlyargs:
        found.append("*")
    found += [argument(arg, value) for arg, value in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return found + ([f"**{ast.unparse(given.kwarg)}"] if given.kwarg else [])


def argument(arg: ast.arg, default: ast.expr | None) -> str:
    """`name: type = default`."""
    equals = " = " if arg.annotation else "="
    return ast.unparse(arg) + (f"{equals}{ast.unparse(default)}" if default else "")


def method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    """The method of that name, if the class defines it."""
    return next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == name), None)


def members(node: ast.ClassDef) -> Iterator[str]:
    """Documented fields, then public methods that have a docstring."""
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            described = " ".join(str(text.value.value).split())
            yield f"- `{ast.unparse(field.target)}: {ast.unparse(field.annotation)}`: {described}"
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_") and ast.get_docstring(item):
            is_property = any(ast.unparse(decorator) == "property" for decorator in item.decorator_list)
            head = f"{node.name}.{item.name}" if is_property else signature(item, f"{node.name}.")
            yield from ("", "```py", head, "```", "", *paragraphs(item))


def paragraphs(documented: ModuleType | ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    """The docstring as Markdown: sections of Google's style become lists."""
    text = inspect.getdoc(documented) if isinstance(documented, ModuleType) else ast.get_docstring(documented)
    section = ""
    for line in (text or "").splitlines():
        if heading := HEADINGS.match(line):
            section = heading[1]
            yield from ("", f"{section}:", "")
        elif section and line.strip():
            inner = line.removeprefix("    ")
            item = ITEM.match(inner)
            yield f"- `{item[1]}`: {item[2]}" if item else f"  {inner.strip()}" if inner[0] == " " else f"- {inner}"
        else:
            yield line
    yield ""


if __name__ == "__main__":
    main()
