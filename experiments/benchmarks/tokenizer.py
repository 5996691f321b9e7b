"""A tokenizer for benchmarks that need no data."""

import ml_collections

from data_pipelines.sequences.tokenizer import SequenceTokenizer
from data_pipelines.tokenization.text import train_text_tokenizer
from data_pipelines.tokenization.vocabulary import Vocabulary


def made_up_tokenizer(config: ml_collections.ConfigDict) -> SequenceTokenizer:
  """Ids are those of the config's vocabulary; few of them have a subword."""
  text = train_text_tokenizer(['a task without text'] * 20, 280)
  return SequenceTokenizer(Vocabulary(**config.data.vocabulary), text)
