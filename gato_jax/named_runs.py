"""Runs that a command compares, as `NAME=WORKDIR` on its command line."""

from collections.abc import Sequence

from data_pipelines.errors import InputError


def named_runs(flag: str, texts: Sequence[str]) -> dict[str, str]:
  """Name -> workdir; the workdir is empty where only a name is given.

  Args:
    flag: that gave them, for messages.
    texts: `NAME=WORKDIR` or `NAME`, each.

  Raises:
    InputError: there is none, or a name that is there twice or is no name.
  """
  pairs = [(name, workdir) for name, _, workdir in (text.partition('=') for text in texts)]
  names = [name for name, _ in pairs]
  if not pairs or len(set(names)) < len(names) or not all(name.replace('_', '').isalnum() for name in names):
    raise InputError(f'{flag} is {", ".join(texts) or "missing"}: give it at least once, as NAME=WORKDIR, each with '
                     'another name of letters, digits and underscores')
  return dict(pairs)
