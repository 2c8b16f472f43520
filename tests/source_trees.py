"""Syntax trees of source files, shared by the tests that read the whole package: parsing it takes half
a second, and so does visiting all its nodes."""

import ast
from functools import cache
from pathlib import Path


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file; callers must not change it."""
    return ast.parse(path.read_text(), str(path))


@cache
def nodes_of(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Return a tree's nodes in the order of `ast.walk`."""
    return tuple(ast.walk(tree))


def forget_trees() -> None:
    """Release the trees: those of the package take about 100 MB."""
    nodes_of.cache_clear()
    tree_of.cache_clear()
