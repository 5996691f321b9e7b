"""Checkpoints in a bucket: emulators of Google's and Amazon's storage on this machine, under their real clients."""

import contextlib
import json
import urllib.parse
import urllib.request

import pytest

from gato_jax.training.checkpoint import UNREADABLE_FOLDER
from gato_jax.training.checkpoint_place import FOLDER
from tests.gato_jax.processes import finish, free_port, start

pytestmark = pytest.mark.slow
BUCKET = 'models'


class GoogleBucket:
  """Its objects, by Google's JSON interface."""

  address = f'gs://{BUCKET}'

  def __init__(self, endpoint):
    self._objects, self._uploads = (f'{endpoint}/{part}storage/v1/b/{BUCKET}/o' for part in ('', 'upload/'))

  def names(self, prefix):
    with urllib.request.urlopen(f'{self._objects}?prefix={urllib.parse.quote(prefix)}') as answer:
      return [item['name'] for item in json.load(answer).get('items', ())]

  def write(self, name, content):
    place = urllib.parse.urlencode({'uploadType': 'media', 'name': name})
    urllib.request.urlopen(urllib.request.Request(f'{self._uploads}?{place}', content, method='POST')).close()


class AmazonBucket:
  """Its objects, by Amazon's client."""

  address = f's3://{BUCKET}'

  def __init__(self, client):
    self._client = client
    client.create_bucket(Bucket=BUCKET)

  def names(self, prefix):
    pages = self._client.get_paginator('list_objects_v2').paginate(Bucket=BUCKET, Prefix=prefix)
    return [item['Key'] for page in pages for item in page.get('Contents', ())]

  def write(self, name, content):
    self._client.put_object(Bucket=BUCKET, Key=name, Body=content)


@contextlib.contextmanager
def google(patch):
  """An empty bucket, which processes started from here see as `gs://models`."""
  pytest.importorskip('gcsfs')
  emulator = pytest.importorskip('gcp_storage_emulator.server')
  port = free_port()
  endpoint = f'http://127.0.0.1:{port}'
  for name in ('STORAGE_EMULATOR_HOST', 'TENSORSTORE_GCS_HTTP_URL'):
    patch.setenv(name, endpoint)
  patch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'none')
  server = emulator.create_server('127.0.0.1', port, in_memory=True, default_bucket=BUCKET)
  server.start()
  try:
    yield GoogleBucket(endpoint)
  finally:
    server.stop()


@contextlib.contextmanager
def amazon(patch):
  """An empty bucket, which processes started from here see as `s3://models`."""
  pytest.importorskip('s3fs')
  emulator = pytest.importorskip('moto.server')
  boto3 = pytest.importorskip('boto3')
  port = free_port()
  patch.setenv('AWS_ENDPOINT_URL', f'http://127.0.0.1:{port}')
  patch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
  for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
    patch.setenv(name, 'none')
  server = emulator.ThreadedMotoServer('127.0.0.1', port, verbose=False)
  server.start()
  try:
    yield AmazonBucket(boto3.client('s3'))
  finally:
    server.stop()


@pytest.mark.parametrize('store', [google, amazon])
def test_saved_in_a_bucket_by_two_processes_and_restored_past_damage(store, tmp_path, monkeypatch):
  with store(monkeypatch) as bucket:
    settings = (tmp_path, 'checkpoint_every=2', f'checkpoint_dir={bucket.address}/run')
    outputs = finish(start(*settings, 'steps=4', processes=2))
    assert not any('AuthCredentialsProvider' in output for output in outputs)  # TensorStore's complaints
    assert {name.split('/')[2] for name in bucket.names(f'run/{FOLDER}/')} == {'2', '4'}
    assert not list(tmp_path.rglob(FOLDER))
    for name in bucket.names(f'run/{FOLDER}/4/parameters/'):
      if '/d/' in name:
        bucket.write(name, b'damaged')
    [output] = finish(start(*settings, 'steps=6'))
    assert 'checkpoint of step 4' in output and 'cannot be read' in output
    assert 'going on from the checkpoint of step 2' in output
    assert bucket.names(f'run/{UNREADABLE_FOLDER}/4-1/')
