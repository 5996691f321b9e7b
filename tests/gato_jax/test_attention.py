"""The fast attentions against the plain one, and the plain one against loops."""

import collections
import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gato_jax.model import attention, blockwise, positions
from tests.gato_jax.processes import xla_flags

LENGTH = 150  # over one chunk of 128, and no multiple of it


def inputs(length=LENGTH, heads=2, size=8, seed=0, dtype=jnp.float32):
  """Queries, keys, values, a second query and codes of distances; segments of 60, 70 and padding."""
  generator = np.random.default_rng(seed)
  q, k, v, relative_q = (jnp.asarray(generator.normal(size=(2, length, heads, size)), dtype) for _ in range(4))
  codes = jnp.asarray(generator.normal(size=(length, heads, size)), dtype)
  segments = np.repeat([1, 2, 0], [60, 70, length - 130])
  return (q, k, v, relative_q, codes), jnp.asarray(np.stack([segments, np.roll(segments, 15)]))


def outputs_and_gradients(implementation, arrays, segment_ids, relative):
  def loss(q, k, v, relative_q, codes):
    second = attention.Relative(relative_q, codes) if relative else None
    out = implementation(q, k, v, segment_ids, second)
    return jnp.sin(out.astype(jnp.float32)).sum(), out

  (_, out), gradients = jax.jit(jax.value_and_grad(loss, argnums=range(5), has_aux=True))(*arrays)
  return out, gradients


@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('name', ['auto', 'chunked', 'blockwise', 'dot_product'])
def test_values_and_gradients_agree_with_the_reference(name, relative):
  arrays, segment_ids = inputs()
  expected, expected_gradients = outputs_and_gradients(attention.reference_attention, arrays, segment_ids, relative)
  out, gradients = outputs_and_gradients(attention.IMPLEMENTATIONS[name], arrays, segment_ids, relative)
  np.testing.assert_allclose(out, expected, atol=2e-6)
  for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-5)
  assert np.abs(expected_gradients[-1]).max() > 0.1 or not relative


def test_the_tpu_kernel_agrees_with_the_reference():
  arrays, segment_ids = inputs(length=256)
  expected, expected_gradients = outputs_and_gradients(attention.reference_attention, arrays, segment_ids, False)
  out, gradients = outputs_and_gradients(attention.splash_attention, arrays, segment_ids, False)
  np.testing.assert_allclose(out, expected, atol=2e-6)
  for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-5)


def test_a_backend_has_its_attention(monkeypatch):
  calls = collections.Counter()
  for name in ('splash', 'dot_product', 'blockwise', 'chunked'):
    monkeypatch.setitem(
        attention.IMPLEMENTATIONS, name,
        lambda q, *_, name=name: calls.update([(attention.platform(), q.dtype.name, name)]))
  arrays, segment_ids = inputs(length=256)
  for platform in ('tpu', 'gpu', 'cpu'):
    monkeypatch.setattr(attention, 'platform', lambda platform=platform: platform)
    for dtype in (jnp.bfloat16, jnp.float32):
      attention.automatic_attention(*(array.astype(dtype) for array in arrays[:3]), segment_ids)
  assert calls == collections.Counter([
      ('tpu', 'bfloat16', 'splash'), ('tpu', 'float32', 'splash'), ('gpu', 'bfloat16', 'dot_product'),
      ('gpu', 'float32', 'chunked'), ('cpu', 'bfloat16', 'blockwise'), ('cpu', 'float32', 'blockwise')])


@pytest.mark.parametrize(('segments', 'expected'), [
    ([1] * 512, 1 + 2 + 3 + 4),  # the blocks on and below the diagonal
    (np.repeat([1, 2, 3, 4], 128), 4),  # on it only
    (np.repeat([1, 2, 3], [100, 156, 256]), 1 + 2 + 1 + 2),  # the second block begins within a segment of the first
    ([0] * 512, 4)])
def test_blocks_of_other_segments_are_not_visited(segments, expected):
  rows = jnp.asarray([segments, [1] * 512])
  visits = blockwise._visits(rows)
  assert visits.count == expected + 10
  assert len(set(visits.places[:visits.count].tolist())) == visits.count


MESH_SCRIPT = textwrap.dedent('''
    import jax, numpy as np, sys
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from gato_jax.model import attention
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(4, 256, 2, 8)).astype(np.float32) for _ in range(3)]
    segments = np.stack([np.repeat([1, 2, 0], [a, 200 - a, 56]) for a in (10, 60, 130, 190)]).astype(np.int32)
    mesh = jax.make_mesh((2, 2, 2), ('replica', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3)
    def run(name, arrays, segments):
      def loss(*arrays):
        out = attention.IMPLEMENTATIONS[name](*arrays, segments)
        return (out * out).sum(), out
      return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*arrays)
    expected = run('reference', arrays, segments)
    put = lambda x, *axes: jax.device_put(x, NamedSharding(mesh, P(('replica', 'fsdp'), *axes)))
    for name in sys.argv[1:]:
      with jax.set_mesh(mesh):
        got = run(name, [put(x, None, 'tensor') for x in arrays], put(segments))
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), got, expected)
      print('agreed')
''')


def test_kernels_agree_on_a_mesh_of_eight_devices():
  environment = {
      **os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': xla_flags(8),
      'PYTHONPATH': str(pathlib.Path(__file__).parents[2])}
  result = subprocess.run([sys.executable, '-c', MESH_SCRIPT, 'blockwise', 'splash'], env=environment,
                          capture_output=True, text=True, check=False)
  assert result.stdout.split() == ['agreed', 'agreed'], result.stderr[-3000:]


@pytest.mark.parametrize('name', attention.IMPLEMENTATIONS)
def test_bfloat16_inputs_have_a_float32_softmax(name):
  arrays, segment_ids = inputs()
  rough = [array.astype(jnp.bfloat16) for array in arrays]
  exact = [array.astype(jnp.float32) for array in rough]
  expected, _ = outputs_and_gradients(attention.reference_attention, exact, segment_ids, False)
  out, _ = outputs_and_gradients(attention.IMPLEMENTATIONS[name], rough, segment_ids, False)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(out.astype(jnp.float32), expected, atol=0.02)


def test_reference_agrees_with_loops():
  (q, k, v, relative_q, codes), segment_ids = inputs()
  out = attention.reference_attention(q, k, v, segment_ids, attention.Relative(relative_q, codes))
  q, k, v, relative_q, codes = (np.float64(array) for array in (q, k, v, relative_q, codes))
  for row, i in [(0, 0), (0, 59), (0, 60), (0, 129), (1, 80), (1, 149)]:
    keys = [j for j in range(i + 1) if segment_ids[row, i] == segment_ids[row, j] != 0] or [i]
    for head in range(2):
      scores = np.array([q[row, i, head] @ k[row, j, head] + relative_q[row, i, head] @ codes[i - j, head]
                         for j in keys]) / np.sqrt(8)
      shares = np.exp(scores) / np.exp(scores).sum()
      np.testing.assert_allclose(out[row, i, head], shares @ v[row, keys, head], atol=1e-5)


def test_mask_is_causal_within_segments_and_padding_sees_itself():
  mask = attention.attention_mask(jnp.asarray([[1, 1, 2, 2, 0, 0]]))
  np.testing.assert_array_equal(mask[0].astype(int), [
      [1, 0, 0, 0, 0, 0],
      [1, 1, 0, 0, 0, 0],
      [0, 0, 1, 0, 0, 0],
      [0, 0, 1, 1, 0, 0],
      [0, 0, 0, 0, 1, 0],
      [0, 0, 0, 0, 0, 1]])
  part = attention.attention_mask(jnp.asarray([[1, 1, 2, 2, 0, 0]]), 2, 4)
  np.testing.assert_array_equal(part, mask[:, 2:4, :4])


def test_chunks_never_touch_keys_above_the_diagonal():
  (q, k, v, *_), segment_ids = inputs()
  program = str(jax.make_jaxpr(lambda *a: attention.chunked_attention(*a, segment_ids))(q, k, v))
  assert f'{LENGTH},{LENGTH}]' not in program
  assert '[2,2,128,128]' in program and '[2,2,22,150]' in program


def test_scores_by_key():
  by_distance = np.arange(2 * 3 * 5, dtype=np.float32).reshape(1, 2, 3, 5)  # last axis: distances 4, 3, 2, 1, 0
  by_key = positions.scores_by_key(jnp.asarray(by_distance))
  for query in range(3):
    for key in range(query + 3):  # the queries are the places 2, 3 and 4
      np.testing.assert_array_equal(by_key[0, :, query, key], by_distance[0, :, query, 4 - (query + 2 - key)])


def test_rotary_scores_depend_on_distance_only():
  generator = np.random.default_rng(0)
  q, k = (jnp.asarray(generator.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))

  def score(query_place, key_place):
    turned = [positions.rotate(x, *positions.rotary_angles(jnp.full((1, 1), place), 8))
              for x, place in ((q, query_place), (k, key_place))]
    return float((turned[0] * turned[1]).sum())

  assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
  assert score(0, 0) == pytest.approx(float((q * k).sum()), abs=1e-5)
  assert abs(score(9, 4) - score(9, 5)) > 1e-3
