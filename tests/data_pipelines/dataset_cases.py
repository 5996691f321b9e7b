"""Settings of a mixture, and a dataset built in the process of the test."""

import importlib
import types

from data_pipelines.datasets.sources import open_source

VOCABULARY = dict(text_size=400, bins=64, discrete_size=64, discrete_overlaps_text=True, mu=100.0, m=256.0)


def entry(**settings):
  """An entry of the mixture."""
  defaults = {'weight': 1.0, 'dataset': '', 'tasks': (), 'episodes': 0, 'noise': 0.0, 'path': '', 'picture_size': 0}
  return types.SimpleNamespace(**defaults | settings)


def data_config(directory, **mixture):
  vocabulary = types.SimpleNamespace(**VOCABULARY)
  return types.SimpleNamespace(dir=str(directory), seed=0, mixture=mixture, vocabulary=vocabulary, mask_question=True,
                               skip_share=0.0)


def build(request, directory, skip_share=0.0):
  """Both splits."""
  module = importlib.import_module(f'data_pipelines.datasets.{request.dataset}.builder')
  builder = module.Builder(request, str(directory), progress=lambda: None, skip_share=skip_share)
  builder.download_and_prepare(download_dir=directory / 'downloads')
  return open_source(request, str(directory), 'train'), open_source(request, str(directory), 'heldout')
