"""Checkpoints in S3 and stores that speak its language: Orbax 0.12 knows of buckets, but of Google's alone.

TensorStore, which writes the arrays, has a driver for S3, and etils does the rest through s3fs. What lies between them
is four functions of Orbax that ask whether a path is in a bucket and where its objects go; here they learn of `s3://`.
`tests/gato_jax/test_bucket.py` fails if an Orbax to come moves them.
"""

import functools
import os
from typing import Any
import urllib.parse

from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

PREFIX = 's3://'


def teach_orbax(directory: Any) -> None:
  """Lets Orbax save and restore in `directory` if that is an `s3://` address; may be called again."""
  if str(directory).startswith(PREFIX):
    _patch()


@functools.cache
def _patch() -> None:
  is_bucket, kvstore = gcs_utils.is_gcs_path, gcs_utils.get_kvstore_for_gcs
  normalize, use_driver = tensorstore_utils._normalize_path, tensorstore_utils._use_gcs_driver
  gcs_utils.is_gcs_path = lambda path: path.as_posix().startswith(PREFIX) or is_bucket(path)
  gcs_utils.get_kvstore_for_gcs = lambda path: _kvstore(path) if path.startswith(PREFIX) else kvstore(path)
  tensorstore_utils._use_gcs_driver = lambda path: path.startswith(PREFIX) or use_driver(path)
  tensorstore_utils._normalize_path = lambda path: normalize(path).replace('s3:/', PREFIX, 1)


def _kvstore(path: str) -> dict[str, Any]:
  """TensorStore's name for it, with what s3fs takes from the environment, and TensorStore would not."""
  address = urllib.parse.urlparse(path)
  result: dict[str, Any] = {'driver': 's3', 'bucket': address.netloc, 'path': address.path.removeprefix('/')}
  if endpoint := os.environ.get('AWS_ENDPOINT_URL_S3') or os.environ.get('AWS_ENDPOINT_URL'):
    result['endpoint'] = endpoint
  if region := os.environ.get('AWS_REGION') or os.environ.get('AWS_DEFAULT_REGION'):
    result['aws_region'] = region
  if 'AWS_ACCESS_KEY_ID' in os.environ:  # else TensorStore logs an error for each place that it finds none in
    result['aws_credentials'] = {'type': 'environment'}
  return result
