"""Which processes of this machine are there; reads /proc."""

import pathlib


def is_alive(pid: int) -> bool:
  """Whether it has not ended; one that has, and that nobody has waited for yet, is not."""
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
  except OSError:
    return False
