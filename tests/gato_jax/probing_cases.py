"""A model that never learned anything and small datasets of every kind, to look into."""

from types import SimpleNamespace

from flax import nnx

from gato_jax.config import model_config
from gato_jax.evaluation.probing import Subject
from gato_jax.model.gato import Gato
from gato_jax.training.restore import Trained
from tests.data_pipelines import token_cases


def subject(layers=3, **data) -> Subject:
  """Two heads; data as `token_cases.mixed_sources`, of which pictures are held out too."""
  config = model_config()
  config.update(layers=layers, width=16, heads=2, head_size=8, feed_forward=32, patch_channels=32, dtype='float32')
  tokenizer = token_cases.tokenizer()
  model = Gato(config, tokenizer.vocabulary, rngs=nnx.Rngs(0))
  sources = token_cases.mixed_sources()
  settings = SimpleNamespace(data=token_cases.data_config(**data))
  heldout = [source for source in sources if source.kind != 'control']
  return Subject(Trained(model, tokenizer, settings, 7), sources, heldout)
