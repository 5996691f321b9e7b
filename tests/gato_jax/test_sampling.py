import jax
import jax.numpy as jnp
import numpy as np

from gato_jax.acting.sampling import sample

LOGITS = jnp.log(jnp.array([0.5, 0.3, 0.15, 0.05]))


def draw(count=4000, **settings):
  keys = jax.random.split(jax.random.key(0), count)
  return np.asarray(sample(jnp.tile(LOGITS, (count, 1)), keys, **settings))


def shares(ids):
  return np.bincount(ids, minlength=4) / len(ids)


def test_temperature_zero_takes_the_most_likely():
  logits = jnp.array([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
  np.testing.assert_array_equal(sample(logits, jax.random.split(jax.random.key(0), 2), temperature=0), [1, 0])


def test_shares_are_those_of_the_softmax_at_a_temperature():
  np.testing.assert_allclose(shares(draw(temperature=1.0)), [0.5, 0.3, 0.15, 0.05], atol=0.03)
  hot = np.sqrt([0.5, 0.3, 0.15, 0.05])
  np.testing.assert_allclose(shares(draw(temperature=2.0)), hot / hot.sum(), atol=0.03)


def test_top_k_keeps_the_k_most_likely():
  np.testing.assert_allclose(shares(draw(temperature=1.0, top_k=2)), [0.625, 0.375, 0, 0], atol=0.03)
  assert set(draw(temperature=5.0, top_k=99)) == {0, 1, 2, 3}


def test_top_p_keeps_the_fewest_that_hold_p_and_always_one():
  np.testing.assert_allclose(shares(draw(temperature=1.0, top_p=0.79)), [0.625, 0.375, 0, 0], atol=0.03)
  np.testing.assert_allclose(shares(draw(temperature=1.0, top_p=0.81)), np.array([0.5, 0.3, 0.15, 0]) / 0.95, atol=0.03)
  assert set(draw(temperature=1.0, top_p=1e-6)) == {0}


def test_a_row_draws_from_its_own_key():
  keys = jax.random.split(jax.random.key(1), 8)
  logits = jnp.tile(LOGITS, (8, 1))
  together = sample(logits, keys, temperature=1.0)
  alone = [int(sample(logits[:1], keys[row : row + 1], temperature=1.0)[0]) for row in range(8)]
  np.testing.assert_array_equal(together, alone)
