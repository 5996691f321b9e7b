"""Whether the user's own files are still those that a dataset was made from."""

import hashlib
import pathlib


def folder_fingerprint(folder: str) -> str:
  """Changes when a file under the folder is added, removed or written to."""
  digest = hashlib.sha256()
  for file in sorted(path for path in pathlib.Path(folder).rglob('*') if path.is_file()):
    state = file.stat()
    digest.update(f'{file.relative_to(folder)} {state.st_size} {state.st_mtime_ns}\n'.encode())
  return digest.hexdigest()
