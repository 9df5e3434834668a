"""Python in answers: the block that holds it, whether it is Python, and stubs of it that tests must not pass with."""

import ast

from data_recipes.synthesis.kinds.answer_text import fenced_blocks
from data_recipes.synthesis.kinds.base import Rejected

_FIRST = "the first argument"
STUBS = ("None", "0", "''", "[]", "True", _FIRST)
"""What a stub returns: tests that pass with one of these for every call say nothing of the solution."""
_STUBS_PROGRAM = """
for program in {programs!r}:
    try:
        exec(compile(program, "stub", "exec"), {{"__name__": "__main__"}})
    except BaseException:
        continue
    break
else:
    raise SystemExit("no stub passes the tests")
"""


def python_block(part: str, text: str) -> str:
    """The one block of Python in a part. `Rejected` without one, with several, and where it is not Python."""
    found = fenced_blocks(text)
    named = [block.content for block in found if block.language in ("python", "python3", "py")]
    chosen = named or [block.content for block in found if not block.language]
    if not chosen:
        raise Rejected(f"no Python in the {part}" if not found else f"{part} in another language")
    if len(chosen) > 1:
        raise Rejected(f"several programs in the {part}")
    python_tree(part, chosen[0])
    return chosen[0].strip("\n")


def python_tree(part: str, code: str) -> ast.Module:
    """The syntax tree of a program; `Rejected` where it has none."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Rejected(f"{part} is not Python") from None
    if not tree.body:
        raise Rejected(f"empty {part}")
    return tree


def stubs_program(code: str, tests: str) -> str:
    """A program that runs to its end only if the tests do with one of the stubs: every function's body gone, so that
    it returns a constant or its first argument. `Rejected` where it is nested too deeply for Python's own tools."""
    try:
        stubs = [ast.unparse(ast.fix_missing_locations(_Stub(value).visit(ast.parse(code)))) for value in STUBS]
    except RecursionError:
        raise Rejected("solution is nested too deeply") from None
    return _STUBS_PROGRAM.format(programs=[f"{stub}\n\n{tests}" for stub in stubs])


class _Stub(ast.NodeTransformer):
    def __init__(self, value: str) -> None:
        self._value = value

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        value = self._value
        if value == _FIRST:
            named = [*node.args.posonlyargs, *node.args.args]
            value = next((argument.arg for argument in named if argument.arg not in ("self", "cls")), "None")
        # An initializer may return nothing but None.
        is_setup = node.name in ("__init__", "__init_subclass__", "__set_name__")
        node.body = list(ast.parse("pass" if is_setup else f"return {value}").body)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        node.body = list(ast.parse("return None").body)
        return node
