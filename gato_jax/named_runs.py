"""Runs that a command compares, as `NAME=WORKDIR` on its command line."""

from collections.abc import Sequence

from data_pipelines.errors import InputError


def named_runs(flag: str, texts: Sequence[str], of_study: bool = False) -> dict[str, str]:
  """Name -> workdir; of a study also `NAME@ENTRY` -> workdir.

  Args:
    flag: that gave them, for messages.
    texts: `NAME=WORKDIR`, each.
    of_study: whether `NAME` will do, its workdir is empty; and `NAME@ENTRY=WORKDIR`, for one entry of the mixture.

  Raises:
    InputError: there is none, or one without a workdir, or a name that is there twice or is no name.
  """
  pairs = [(name, workdir) for name, _, workdir in (text.partition('=') for text in texts)]
  names = [name for name, _ in pairs]
  if not pairs or len(set(names)) < len(names) or not all(
      _is_name(name.partition('@')[0] if of_study else name) and (workdir or of_study and '@' not in name)
      for name, workdir in pairs):
    form = 'NAME=WORKDIR, NAME or NAME@ENTRY=WORKDIR' if of_study else 'NAME=WORKDIR'
    raise InputError(f'{flag} is {", ".join(texts) or "missing"}: give it at least once, as {form}, each with another '
                     'name of letters, digits and underscores')
  return dict(pairs)


def _is_name(text: str) -> bool:
  return text.replace('_', '').isalnum()
