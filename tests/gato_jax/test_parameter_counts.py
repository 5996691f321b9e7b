"""The paper's three model sizes (table 5) from the abstract model; nothing is allocated."""

from flax import nnx
import jax
import pytest

from data_pipelines.tokenization.vocabulary import Vocabulary
from gato_jax.config import model_config
from gato_jax.model.gato import Gato

# layers, width, heads, head size, feed-forward, learned numbers by the paper
TABLE_5 = {
    '79M': (8, 768, 24, 32, 3072, 79e6),
    '364M': (12, 1536, 12, 128, 6144, 364e6),
    '1.18B': (24, 2048, 16, 128, 8192, 1.18e9),
}


def count(name, positions):
  layers, width, heads, head_size, feed_forward, _ = TABLE_5[name]
  config = model_config()
  config.update(
      layers=layers, width=width, heads=heads, head_size=head_size, feed_forward=feed_forward, positions=positions)
  vocabulary = Vocabulary(text_size=32_000)
  abstract = nnx.state(nnx.eval_shape(lambda: Gato(config, vocabulary, rngs=nnx.Rngs(0))))
  return sum(leaf.size for leaf in jax.tree.leaves(abstract))


@pytest.mark.parametrize('name', TABLE_5)
def test_transformer_xl_has_the_papers_size(name):
  assert count(name, 'transformer_xl') == pytest.approx(TABLE_5[name][-1], rel=0.015)


@pytest.mark.parametrize('name', TABLE_5)
def test_rotary_positions_save_one_projection_and_two_biases_a_layer(name):
  layers, width = TABLE_5[name][:2]
  saved = count(name, 'transformer_xl') - count(name, 'rope')
  assert saved == layers * (width * width + 2 * width)
  assert count(name, 'rope') == count(name, 'none')
