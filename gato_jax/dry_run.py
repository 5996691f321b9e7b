"""What `gato-jax train --dry_run` says: whether a config could be trained, without reading or writing an episode."""

import jax
import ml_collections

from data_pipelines.datasets.listing import aligned, mixture_table
from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.training.state import define_model


def dry_run(config: ml_collections.ConfigDict) -> int:
  """Prints the mixture entry by entry with what is missing of it, and the sizes of model and run.

  Returns:
    The exit status: 0 if everything is there, 1 if not.
  """
  rows, missing = mixture_table(config.data)
  print(aligned(rows))
  print(f'{config.name}: {parameter_count(config) / 1e6:,.1f}M parameters; {config.training.steps:,} steps of '
        f'{config.training.batch_size} rows of {config.data.sequence_length} positions')
  if missing:
    print(f'{missing} of {len(rows) - 1} entries of the mixture are not complete')
  return int(missing > 0)


def parameter_count(config: ml_collections.ConfigDict) -> int:
  """Learned numbers of the model of a config; nothing is allocated."""
  definition = define_model(config.model, Vocabulary(**config.data.vocabulary))
  return sum(leaf.size for leaf in jax.tree.leaves(definition.abstract))
