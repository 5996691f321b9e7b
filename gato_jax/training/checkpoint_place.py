"""Where the checkpoints of a workdir are: in it, or where its run put them (`training.checkpoint_dir`)."""

from etils import epath

from gato_jax.atomic import write_atomically

FOLDER = 'checkpoints'
TOKENIZER_FOLDER = 'tokenizer'  # beside the checkpoints, the same for all of them
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
  return epath.Path(path) if _is_address(path) else epath.Path(path).resolve()


def move(source: epath.Path, target: epath.Path) -> None:
  """A folder; in a bucket, which renames nothing, object by object: s3fs would look for one of each folder."""
  if not _is_address(source):
    source.rename(target)
    return
  _copy_objects(source, target)
  source.rmtree()


def _copy_objects(source: epath.Path, target: epath.Path) -> None:
  for path in source.iterdir():
    if path.is_dir():
      _copy_objects(path, target / path.name)
    else:
      path.copy(target / path.name)


def _is_address(path: str | epath.Path) -> bool:
  return '://' in str(path)
