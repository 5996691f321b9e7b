"""Builds datasets on Apache Beam: the builders that a machine runs alone, on as many as a runner has.

An element of the pipeline is the request of one control task or dataset. What it holds is a pure function of the
request, so it is the same whoever builds it. Workers on other machines write to a data directory that all of them
reach, e.g. gs://.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
import shlex

from data_pipelines.datasets.building import build_dataset
from data_pipelines.datasets.catalogue import Request
from data_pipelines.errors import InputError


def build_on_beam(requests: Sequence[Request], data_dir: str, skip_share: float, runner: str, options: str) -> None:
  """Builds all datasets, over whatever lies in their directories.

  Args:
    requests: what to build.
    data_dir: where to; a path that every worker reaches.
    skip_share: of a dataset's examples may be bad.
    runner: Beam's name of it, e.g. `DirectRunner` or `DataflowRunner`.
    options: its own, as on a command line.

  Raises:
    InputError: Beam is not installed, has no such runner, or a dataset cannot be built.
  """
  try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as error:
    raise InputError(f'cannot import apache_beam ({error}): pip install "gato_jax[beam]"') from error
  try:
    with beam.Pipeline(runner=runner, options=PipelineOptions(shlex.split(options))) as pipeline:
      slowest_first = sorted(requests, key=lambda request: -request.seconds)
      elements = pipeline | 'Requests' >> beam.Create(slowest_first) | beam.Reshuffle()
      _ = elements | 'Build' >> beam.Map(build_apart, data_dir, skip_share)
  except Exception as error:  # whatever a worker raised comes back as the runner's own
    raise InputError(f'{runner}: {error}') from error


def build_apart(request: Request, data_dir: str, skip_share: float) -> str:
  """`build_dataset` in a process of its own, as Beam works in threads, where an expert that hangs cannot be stopped."""
  with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
    return pool.submit(build_dataset, request, data_dir, skip_share).result()
