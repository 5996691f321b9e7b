"""Schedule and AdamW against the formulas of appendix D, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.errors import InputError
from gato_jax.config import default_config
from gato_jax.training.optimizer import MUON_RMS, decay_mask, make_optimizer, make_schedule
from gato_jax.training.state import define_model
from tests.gato_jax.training_cases import VOCABULARY, tiny_run_config


def test_schedule_of_the_paper():
  schedule = make_schedule(default_config().training)
  for step, rate in {0: 1e-7, 7_500: (1e-7 + 1e-4) / 2, 15_000: 1e-4, 1_000_000: 1e-5, 2_000_000: 1e-5}.items():
    assert float(schedule(step)) == pytest.approx(rate, rel=1e-3)
  middle = 15_000 + (1_000_000 - 15_000) // 2
  assert float(schedule(middle)) == pytest.approx((1e-4 + 1e-5) / 2, rel=1e-3)


def test_decay_steps_default_to_the_steps_of_the_run():
  training = default_config().training
  training.steps, training.schedule.warmup_steps = 100, 10
  assert float(make_schedule(training)(100)) == pytest.approx(1e-5, rel=1e-3)
  training.schedule.decay_steps = 200
  assert float(make_schedule(training)(100)) > 4e-5


def test_run_that_ends_in_its_warm_up():
  training = default_config().training
  training.steps = 3
  assert float(make_schedule(training)(3)) == pytest.approx(1e-7 + 3 / 15_000 * (1e-4 - 1e-7), rel=1e-3)


def tree(rng):
  return {
      'norm': {'scale': rng.normal(size=5), 'bias': rng.normal(size=5)},
      'layer': {'kernel': rng.normal(size=(5, 3))}, 'table': rng.normal(size=(7, 5))}


@pytest.mark.parametrize('clip_norm', [0.0, 0.5])
def test_adamw_follows_the_formula(clip_norm):
  training = default_config().training
  training.optimizer.clip_norm, training.schedule.warmup_steps, training.steps = clip_norm, 2, 10
  training.schedule.peak = 0.1
  optimizer, schedule = make_optimizer(training), make_schedule(training)
  rng = np.random.default_rng(0)
  wanted = tree(rng)
  parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), wanted)
  state = optimizer.init(parameters)
  first = second = jax.tree.map(np.zeros_like, wanted)
  for step in range(4):
    gradients = tree(rng)
    update, state = optimizer.update(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), gradients), state,
                                     parameters)
    parameters = optax.apply_updates(parameters, update)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients)))
    if clip_norm:
      gradients = jax.tree.map(lambda leaf, norm=norm: leaf * min(1, clip_norm / norm), gradients)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g**2, second, gradients)
    decay = {'norm': {'scale': 0.0, 'bias': 0.0}, 'layer': {'kernel': 0.1}, 'table': 0.1}

    def updated(p, m, v, d, step=step):
      m, v = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.95 ** (step + 1))
      return p - float(schedule(step)) * (m / (np.sqrt(v) + 1e-8) + d * p)

    wanted = jax.tree.map(updated, wanted, first, second, decay)
  moments = optax.tree.get(state, 'mu'), optax.tree.get(state, 'nu')
  jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5),
               (parameters, *moments), (wanted, first, second))


def test_norms_and_biases_of_the_model_do_not_decay():
  config = tiny_run_config()
  config.model.positions = 'transformer_xl'
  shapes = jax.eval_shape(lambda: define_model(config.model, VOCABULARY).initialize(0))
  spared = {jax.tree_util.keystr(path, simple=True, separator='/')
            for path, decays in jax.tree.leaves_with_path(decay_mask(shapes)) if not decays}
  assert {'final_norm/scale', 'blocks/attention/content_bias', 'embedding/patches/output_bias'} <= spared
  matrices = {'embedding/tokens/table', 'blocks/attention/query', 'blocks/feed_forward/gate', 'embedding/patches/stem'}
  assert not matrices & spared
  assert all('norm' in path or 'bias' in path for path in spared)


def test_clipping_can_be_switched_without_a_new_state():
  training = default_config().training
  without = make_optimizer(training).init({'kernel': jnp.ones(2)})
  training.optimizer.clip_norm = 1.0
  assert jax.tree.structure(make_optimizer(training).init({'kernel': jnp.ones(2)})) == jax.tree.structure(without)


@pytest.mark.parametrize('positions', ['rope', 'transformer_xl'])
def test_muon_orthogonalises_the_blocks_matrices_and_leaves_the_rest_to_adamw(positions):
  config = tiny_run_config()
  config.model.positions = positions
  training = config.training
  training.optimizer.update(name='muon', weight_decay=0.0)
  training.schedule.update(initial=1.0, peak=1.0, warmup_steps=0, final_share=1.0)
  parameters = define_model(config.model, VOCABULARY).initialize(0)
  rng = np.random.default_rng(0)
  gradients = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), parameters)
  optimizer = make_optimizer(training)
  updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)

  def singular_values(update, rows):  # of layer 0's matrix, its first axis being what it reads
    return np.linalg.svd(np.asarray(update)[0].reshape(rows, -1), compute_uv=False)

  width, attention = config.model.width, updates['blocks']['attention']
  for matrix in (attention['query'], updates['blocks']['feed_forward']['gate']):
    values = singular_values(matrix, width)
    assert values.max() / values.min() < 2  # Newton-Schulz stops near 1, not at it
  values = singular_values(attention['output'], config.model.heads * config.model.head_size)
  assert values.max() / values.min() < 2
  root_mean_square = np.sqrt(np.mean(np.square(updates['blocks']['feed_forward']['gate'])))
  assert root_mean_square == pytest.approx(MUON_RMS, rel=0.3)

  adamw = optax.adamw(1.0, b1=0.9, b2=0.95, weight_decay=0.0, nesterov=True)
  plain, _ = adamw.update(gradients, adamw.init(parameters), parameters)
  np.testing.assert_allclose(updates['embedding']['tokens']['table'], plain['embedding']['tokens']['table'], rtol=1e-5)
  if positions == 'transformer_xl':  # its biases are stacked to three axes, but are no matrices
    for name in ('content_bias', 'distance_bias'):
      np.testing.assert_allclose(attention[name], plain['blocks']['attention'][name], rtol=1e-5)
  np.testing.assert_allclose(updates['final_norm']['scale'], plain['final_norm']['scale'], rtol=1e-5)


def test_unknown_optimizer():
  training = default_config().training
  training.optimizer.name = 'adam'
  with pytest.raises(InputError, match='must be adamw or muon'):
    make_optimizer(training)
