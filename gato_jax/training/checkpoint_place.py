"""Where the checkpoints of a workdir are: in it, or where its run put them (`training.checkpoint_dir`)."""

from etils import epath

from gato_jax.atomic import write_atomically

FOLDER = 'checkpoints'
_NOTE = 'checkpoint_dir.txt'  # in a workdir: the directory that has them instead


def note_place(workdir: str, checkpoint_dir: str) -> None:
  """Notes in a workdir where its run puts them, for all who read them later; empty: in the workdir."""
  note = absolute(workdir) / _NOTE
  if checkpoint_dir:
    write_atomically(note, f'{absolute(checkpoint_dir)}\n')
  else:
    note.unlink(missing_ok=True)


def checkpoint_folder(workdir: str) -> epath.Path:
  """The folder that the checkpoints of a workdir lie in, whether it is there or not."""
  note = absolute(workdir) / _NOTE
  return (absolute(note.read_text().strip()) if note.exists() else absolute(workdir)) / FOLDER


def absolute(path: str) -> epath.Path:
  """Addresses are whole as they are; `resolve` would take them for names of local folders."""
  return epath.Path(path) if '://' in str(path) else epath.Path(path).resolve()
