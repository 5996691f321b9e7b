"""The config reference: every key of `gato_jax/config.py` with its default and the comment beside it there."""

import ast
from collections.abc import Iterator
import inspect
import io
import itertools
import pathlib
import re
import tokenize
from typing import Any, NamedTuple

import ml_collections

from data_pipelines.datasets.mapping import KeyMapping
from gato_jax import config as config_module
from gato_jax.config import default_config, mixture_entry

_FILE = pathlib.Path(config_module.__file__)
_ENTRY = 'data.mixture.NAME'
_HEAD = """# Config reference

Every key that there is, made from `gato_jax/config.py` whenever these pages are built. Set one with
`--config.a.b=value`, or in an experiment's file; a key that is not here, or a value of another type, is an error that
names the nearest key. `gato-jax inspect --config=FILE` prints a config as it is resolved.
"""


class Key(NamedTuple):
  """One key: its path with dots, its default, and what the source says of it."""

  path: str
  default: Any
  comment: str

  @property
  def section(self) -> str:
    if self.path.startswith(_ENTRY):
      return _ENTRY
    return self.path.partition('.')[0] if '.' in self.path else ''


def keys() -> list[Key]:
  """All keys, in the order of the file."""
  comments = _comments_by_path()
  defaults = dict([*_leaves(default_config(), ''), *_leaves(mixture_entry(0.0), f'{_ENTRY}.')])
  places = {path: place for place, path in enumerate(comments)}
  return [Key(path, defaults[path], comments.get(path, '')) for path in sorted(defaults, key=places.get)]


def page() -> str:
  """Markdown: a table a section."""
  functions, parts, found = _functions(), [_HEAD], keys()
  for section in dict.fromkeys(key.section for key in found):
    about = ast.get_docstring(functions[section]).partition('\n\n')[0] if section in functions else ''
    rows = [f'| `{key.path}` | {_default(key)} | {_escaped(key.comment)} |' for key in found if key.section == section]
    parts += [f'## {section or "The whole"}', about, '\n'.join(['| key | default | |', '|---|---|---|', *rows])]
  return '\n\n'.join(filter(None, parts)) + '\n'


def _default(key: Key) -> str:
  return 'none: give one' if key.path == f'{_ENTRY}.weight' else f'`{key.default!r}`'


def _escaped(text: str) -> str:
  return re.sub(r'([|<*_])', r'\\\1', text)


def _leaves(config: ml_collections.ConfigDict, prefix: str) -> Iterator[tuple[str, Any]]:
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _leaves(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def _functions() -> dict[str, ast.FunctionDef]:
  """What makes each section, by the section's path."""
  tree = ast.parse(_FILE.read_text())
  functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
  sections = {'': functions['default_config']}
  for statement in functions['default_config'].body:
    match statement:
      case ast.Assign(targets=[ast.Attribute(attr=section)], value=ast.Call(func=ast.Name(id=name))):
        sections[section] = functions[name]
        if section == 'data':
          sections[_ENTRY] = functions['mixture_entry']
  return sections


def _comments_by_path() -> dict[str, str]:
  comments, found = _comments(), {}
  for section, function in _functions().items():
    for path, first, last in itertools.chain.from_iterable(map(_places, function.body)):
      name = '.'.join(filter(None, (section, path)))
      found[name] = ' '.join([*_above(comments, first), comments.get(last, ('',))[0]]).strip()
  attributes = re.findall(r'^ {2}(\w+): (.*(?:\n {4}.*)*)', inspect.getdoc(KeyMapping), re.MULTILINE)
  return found | {f'{_ENTRY}.mapping.{name}': ' '.join(text.split()) for name, text in attributes}


def _places(statement: ast.stmt) -> Iterator[tuple[str, int, int]]:
  """Path within its function, first and last line, of every key that a statement sets."""
  match statement:
    case ast.Assign(targets=[ast.Name()], value=value) | ast.Return(value=value):
      prefix = ''
    case ast.Assign(targets=[ast.Attribute(attr=prefix)], value=value):
      yield prefix, statement.lineno, statement.end_lineno
    case _:
      return
  match value:
    case ast.Call(func=ast.Attribute(attr='ConfigDict'), args=[ast.Dict(keys=names, values=values)]):
      for name, inner in zip(names, values, strict=True):
        yield '.'.join(filter(None, (prefix, name.value))), name.lineno, inner.end_lineno


def _comments() -> dict[int, tuple[str, bool]]:
  """Line -> its comment, and whether it has the line for itself."""
  tokens = tokenize.generate_tokens(io.StringIO(_FILE.read_text()).readline)
  return {token.start[0]: (token.string.lstrip('# '), not token.line[:token.start[1]].strip())
          for token in tokens if token.type == tokenize.COMMENT}


def _above(comments: dict[int, tuple[str, bool]], line: int) -> list[str]:
  """The comment lines right above a line."""
  lines = []
  while comments.get(line - 1, ('', False))[1]:
    line -= 1
    lines.insert(0, comments[line][0])
  return lines
