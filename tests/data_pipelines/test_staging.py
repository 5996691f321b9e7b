"""Data on storage elsewhere, with fsspec's storage in memory: copied once, kept up to date, written back."""

import fcntl
import importlib.util
import os
import pathlib
import uuid

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
import pytest

from data_pipelines.datasets.prepare import open_sources, open_tokenizer, prepare
from data_pipelines.datasets.staging import CACHE_VARIABLE, fetch, local_path, push
from data_pipelines.errors import InputError
from data_pipelines.sequences.index import open_index
from tests.data_pipelines.test_datasets_prepare import assert_same_episodes, data_config, entry


@pytest.fixture
def memory(tmp_path, monkeypatch):
  """A place in fsspec's memory of its own; local copies go to `tmp_path/cache`."""
  monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / 'cache'))
  return f'memory://{uuid.uuid4().hex}/data'


def write(path, **files):
  for name, content in files.items():
    with fsspec.open(f'{path}/{name.replace("_", ".")}', 'w') as file:
      file.write(content)


def contents(directory):
  return {file.name: file.read_text() for file in pathlib.Path(directory).iterdir()}


def test_a_copy_is_made_once_and_follows_changes(memory):
  write(memory, a_txt='one', b_json='two')
  local = fetch(memory)
  assert contents(local) == {'a.txt': 'one', 'b.json': 'two'}
  before = os.stat(local).st_ino
  assert fetch(memory) == local and os.stat(local).st_ino == before
  write(memory, a_txt='eno')  # as many bytes
  assert contents(fetch(memory)) == {'a.txt': 'eno', 'b.json': 'two'}
  fsspec.filesystem('memory').rm(memory, recursive=True)
  assert not os.path.exists(fetch(memory))


def test_a_copy_that_was_damaged_is_made_anew(memory):
  write(memory, a_txt='one', b_json='two')
  os.remove(os.path.join(fetch(memory), 'a.txt'))
  assert contents(fetch(memory)) == {'a.txt': 'one', 'b.json': 'two'}


def test_what_is_written_into_a_copy_stays(memory):
  write(memory, a_txt='one', b_json='two')
  pathlib.Path(fetch(memory), 'index').write_text('made here')
  assert contents(fetch(memory)) == {'a.txt': 'one', 'b.json': 'two', 'index': 'made here'}
  write(memory, a_txt='new')
  assert contents(fetch(memory)) == {'a.txt': 'new', 'b.json': 'two'}


def test_one_process_at_a_time_makes_a_copy(memory, monkeypatch):
  write(memory, a_txt='one')
  get_file = MemoryFileSystem.get_file

  def lock():
    with open(local_path(memory) + '.lock') as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

  def get_while_locked(*arguments):
    with pytest.raises(BlockingIOError):
      lock()
    get_file(*arguments)

  monkeypatch.setattr(MemoryFileSystem, 'get_file', get_while_locked)
  assert contents(fetch(memory)) == {'a.txt': 'one'}
  lock()


def test_single_files(memory):
  write(memory, a_txt='one')
  assert pathlib.Path(fetch(f'{memory}/a.txt')).read_text() == 'one'


def test_pushing_replaces_what_is_there(memory):
  write(memory, a_txt='one', b_json='two')
  local = pathlib.Path(fetch(memory))
  (local / 'a.txt').write_text('uno')
  (local / 'b.json').unlink()
  (local / 'incomplete.x').write_text('of a writer that was killed')
  push(memory)
  assert fsspec.filesystem('memory').find(memory.removeprefix('memory:/')) == [f'{memory[8:]}/a.txt']
  assert fetch(memory) == str(local) and (local / 'incomplete.x').exists()  # so the copy counts as whole
  (local / 'incomplete.x').unlink()
  assert contents(local) == {'a.txt': 'uno'}


def test_local_paths_are_left_alone(tmp_path):
  assert fetch(str(tmp_path)) == local_path(str(tmp_path)) == str(tmp_path)
  push(str(tmp_path))


@pytest.mark.parametrize('path', ['nowhere://x/y', 'gs://bucket/data'])
def test_storage_without_its_package_says_so(path, memory):
  if path.startswith('gs:') and importlib.util.find_spec('gcsfs'):
    pytest.skip('gcsfs is installed')
  with pytest.raises(InputError, match=f'{path} cannot be opened'):
    fetch(path)


def test_prepare_and_read_on_storage_elsewhere(tmp_path, monkeypatch):
  """Storage that the worker processes reach too: files, by their address."""
  pytest.importorskip('sklearn')
  monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / 'cache'))
  there = data_config(f'file://{tmp_path}/elsewhere', digits=entry(episodes=40))
  here = data_config(tmp_path / 'data', digits=entry(episodes=40))
  prepare(there, workers=1)
  prepare(here, workers=1)
  monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / 'another machine'))
  [source] = open_sources(there, 'train')
  assert_same_episodes([source], open_sources(here, 'train'))
  assert open_tokenizer(there) == open_tokenizer(here)
  monkeypatch.setattr('data_pipelines.sequences.index._build', None)  # the index came with the data
  open_index(source, open_tokenizer(there))
