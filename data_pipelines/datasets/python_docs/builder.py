"""The documentation that ships with Python: the interactive help's topics, and the standard library's docstrings.

Sources are parsed, never imported. A module is one document: its docstring, then those of its classes and functions.
What it holds depends on the Python it is built with.
"""

import ast
from collections.abc import Iterator
import functools
import pathlib
import sysconfig
import warnings

from data_pipelines.datasets.builder import Skip, TextBuilder

_SKIPPED = {'site-packages', 'dist-packages', 'test', 'tests', 'idlelib', 'lib2to3', 'encodings', '__pycache__'}
_SHORTEST = 20  # characters: shorter docstrings say nothing


class Builder(TextBuilder, skip_registration=True):
  DESCRIPTION = __doc__
  HELD_OUT_SHARE = 0.05

  def documents(self, skip: Skip) -> Iterator[str]:
    del skip  # the sources that ship with Python can be read
    return iter(self._documents)

  @functools.cached_property
  def _documents(self) -> list[str]:
    return list(self._parsed())

  def _parsed(self) -> Iterator[str]:
    library = pathlib.Path(sysconfig.get_path('stdlib'))
    yield from topics(library / 'pydoc_data' / 'topics.py')
    seen: set[str] = set()
    for path in sorted(library.rglob('*.py')):
      parts = path.relative_to(library).parts
      if not _SKIPPED.intersection(parts) and parts[0] != 'pydoc_data':
        paragraphs = list(docstrings(path, seen))
        if paragraphs:
          yield '\n\n'.join(paragraphs)


def topics(path: pathlib.Path) -> Iterator[str]:
  """The texts of pydoc's topics file, which is one dictionary of strings."""
  for node in parse(path).body:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
      yield from dict.fromkeys(text.strip() for text in ast.literal_eval(node.value).values())


def docstrings(path: pathlib.Path, seen: set[str]) -> Iterator[str]:
  """The docstrings of a module in their order, under the names of what they describe; skips and grows `seen`."""
  documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
  nodes = [node for node in ast.walk(parse(path)) if isinstance(node, documented)]
  for node in sorted(nodes, key=lambda node: getattr(node, 'lineno', 0)):
    text = ast.get_docstring(node)
    if text and len(text) >= _SHORTEST and text not in seen:
      seen.add(text)
      yield f'{getattr(node, "name", path.stem)}\n{text}'


def parse(path: pathlib.Path) -> ast.Module:
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # invalid escapes in other people's strings
    return ast.parse(path.read_bytes())
