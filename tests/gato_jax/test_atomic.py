"""Files that are never there by half."""

import pytest

from gato_jax.atomic import write_atomically


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
  path = tmp_path / 'note.json'
  write_atomically(path, 'old')
  with pytest.raises(UnicodeEncodeError):  # in the middle of writing
    write_atomically(path, 'new \ud800')
  assert path.read_text() == 'old'
  write_atomically(str(path), 'nµ')
  assert path.read_text(encoding='utf-8') == 'nµ'
  assert [file.name for file in tmp_path.iterdir()] == ['note.json']
