"""Runs that a command compares, as `NAME=WORKDIR` on its command line."""

from collections.abc import Sequence

from data_pipelines.errors import InputError


def named_runs(flag: str, texts: Sequence[str], name_alone: bool = False) -> dict[str, str]:
  """Name -> workdir.

  Args:
    flag: that gave them, for messages.
    texts: `NAME=WORKDIR`, each.
    name_alone: whether `NAME` will do; its workdir is empty.

  Raises:
    InputError: there is none, or one without a workdir, or a name that is there twice or is no name.
  """
  pairs = [(name, workdir) for name, _, workdir in (text.partition('=') for text in texts)]
  names = [name for name, _ in pairs]
  if not pairs or len(set(names)) < len(names) or not all(
      name.replace('_', '').isalnum() and (workdir or name_alone) for name, workdir in pairs):
    raise InputError(f'{flag} is {", ".join(texts) or "missing"}: give it at least once, as NAME=WORKDIR, each with '
                     'another name of letters, digits and underscores')
  return dict(pairs)
