"""Checkpoints in a bucket: an emulator of Google's storage on this machine, under the real clients of it."""

import json
import urllib.parse
import urllib.request

import pytest

from gato_jax.training.checkpoint import UNREADABLE_FOLDER
from gato_jax.training.checkpoint_place import FOLDER
from tests.gato_jax.processes import finish, free_port, start

pytest.importorskip('gcsfs')
emulator = pytest.importorskip('gcp_storage_emulator.server')
pytestmark = pytest.mark.slow
BUCKET = 'models'


class Bucket:
  """Its objects, by Google's JSON interface."""

  def __init__(self, address):
    self._objects, self._uploads = (f'{address}/{part}storage/v1/b/{BUCKET}/o' for part in ('', 'upload/'))

  def names(self, prefix):
    with urllib.request.urlopen(f'{self._objects}?prefix={urllib.parse.quote(prefix)}') as answer:
      return [item['name'] for item in json.load(answer).get('items', ())]

  def write(self, name, content):
    place = urllib.parse.urlencode({'uploadType': 'media', 'name': name})
    urllib.request.urlopen(urllib.request.Request(f'{self._uploads}?{place}', content, method='POST')).close()


@pytest.fixture
def bucket(monkeypatch):
  """An empty one, which processes started from here see as `gs://models`."""
  port = free_port()
  address = f'http://127.0.0.1:{port}'
  for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
    monkeypatch.setenv(name, address)
  monkeypatch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'none')
  server = emulator.create_server('127.0.0.1', port, in_memory=True, default_bucket=BUCKET)
  server.start()
  yield Bucket(address)
  server.stop()


def test_saved_in_a_bucket_and_restored_past_damage(bucket, tmp_path):
  settings = (tmp_path, 'checkpoint_every=2', f'checkpoint_dir=gs://{BUCKET}/run')
  finish(start(*settings, 'steps=4'))
  assert {name.split('/')[2] for name in bucket.names(f'run/{FOLDER}/')} == {'2', '4'}
  assert not list(tmp_path.rglob(FOLDER))
  for name in bucket.names(f'run/{FOLDER}/4/parameters/'):
    if '/d/' in name:
      bucket.write(name, b'damaged')
  [output] = finish(start(*settings, 'steps=6'))
  assert 'checkpoint of step 4' in output and 'cannot be read' in output
  assert 'going on from the checkpoint of step 2' in output
  assert bucket.names(f'run/{UNREADABLE_FOLDER}/4-1/')
