"""The model's forward pass in evaluation, written a second time: NumPy, float64, one row and one query at a time."""

import math

import numpy as np


def hidden_states(parameters, batch, config, vocabulary, table, sights=None):
  """Final hidden states [B, L, D] of a batch.

  `sights`, one a row, tell what a query looks at instead of its segment: place -> [(place of key, distance)].
  """
  rows = range(len(batch.tokens))
  sights = sights or [_segment_sight(batch.segment_ids[row]) for row in rows]
  return np.stack([
      _row(parameters, *(field[row] for field in batch), config, vocabulary, table, sights[row]) for row in rows])


def _segment_sight(segments):
  return lambda i: [(j, i - j) for j in range(i + 1) if segments[i] == segments[j] != 0] or [(i, 0)]


def effective_table(parameters, vocabulary, code):
  tokens = parameters['embedding']['tokens']
  table = np.array(tokens['table'], np.float64)
  for bin_index in range(vocabulary.bins):
    table[vocabulary.continuous_start + bin_index] += np.float64(code[bin_index]) @ np.float64(tokens['value_map'])
  return table


def _row(parameters, tokens, _, __, ___, ____, local, _____, patches, places, intervals, config, vocab, table, sight):
  embedding = parameters['embedding']
  x = np.array([np.float64(embedding['local'][p]) for p in local])
  x += np.array([0 * table[0] if token == vocab.patch_id else table[token] for token in tokens])
  for patch, place, (row, column) in zip(patches, places, intervals, strict=True):
    if place == len(tokens):
      continue
    x[place] += _patch(embedding['patches'], patch)
    x[place] += np.float64(embedding['patch_positions']['row'][_rounded_mean(row)])
    x[place] += np.float64(embedding['patch_positions']['column'][_rounded_mean(column)])
  for layer in range(config.layers):
    block = _layer(parameters['blocks'], layer)
    x = x + _attention(block['attention'], _layer_norm(block['attention_norm'], x), sight, config)
    x = x + _feed_forward(block['feed_forward'], _layer_norm(block['feed_forward_norm'], x))
  return _layer_norm(parameters['final_norm'], x)


def _layer(tree, layer):
  return {k: _layer(v, layer) if isinstance(v, dict) else np.float64(v[layer]) for k, v in tree.items()}


def _rounded_mean(interval):
  return math.floor((int(interval[0]) + int(interval[1])) / 2 + 0.5)


def _layer_norm(norm, x):
  centred = x - x.mean(-1, keepdims=True)
  normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
  return normal * np.float64(norm['scale']) + np.float64(norm['bias'])


def _gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _feed_forward(weights, x):
  return (_gelu(x @ weights['gate']) * (x @ weights['value'])) @ weights['output']


def _attention(weights, x, sight, config):
  out = np.zeros_like(x)
  for head in range(config.heads):
    q, k, v = (x @ weights[name][:, head] for name in ('query', 'key', 'value'))
    for i in range(len(x)):
      seen = sight(i)
      scores = np.array([_score(weights, head, q[i], k[j], distance, config) for j, distance in seen])
      shares = np.exp((scores - scores.max()) / np.sqrt(config.head_size))
      out[i] += (shares / shares.sum()) @ v[[j for j, _ in seen]] @ weights['output'][head]
  return out


def _score(weights, head, q, k, distance, config):
  if config.positions == 'rope':
    return _rotate(q, distance) @ k
  if config.positions == 'none':
    return q @ k
  angles = [distance / 10_000 ** (2 * i / config.width) for i in range(config.width // 2)]
  code = np.concatenate([np.sin(angles), np.cos(angles)]) @ weights['distance'][:, head]
  return (q + weights['content_bias'][head]) @ k + (q + weights['distance_bias'][head]) @ code


def _rotate(y, position):
  half = len(y) // 2
  turns = np.exp([1j * position / 10_000 ** (i / half) for i in range(half)])
  turned = (y[:half] + 1j * y[half:]) * turns
  return np.concatenate([turned.real, turned.imag])


def _patch(weights, pixels):
  x = _convolve((2 * np.float64(pixels) / 255 - 1) / 4, np.float64(weights['stem']), 2)
  skip = (x[0::2, 0::2] + x[0::2, 1::2] + x[1::2, 0::2] + x[1::2, 1::2]) / 4
  x = _convolve(_gelu(_group_norm(weights['first_norm'], x)), np.float64(weights['first']), 2)
  x = _convolve(_gelu(_group_norm(weights['second_norm'], x)), np.float64(weights['second']), 1)
  return (x + skip).reshape(-1) @ np.float64(weights['output']) + np.float64(weights['output_bias'])


def _group_norm(norm, x, groups=32):
  grouped = x.reshape(*x.shape[:2], groups, -1)
  centred = grouped - grouped.mean((0, 1, 3), keepdims=True)
  normal = centred / np.sqrt((centred**2).mean((0, 1, 3), keepdims=True) + 1e-6)
  return normal.reshape(x.shape) * np.float64(norm['scale']) + np.float64(norm['bias'])


def _convolve(x, kernel, stride):
  padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
  return np.array([
      [np.einsum('ijc,ijcd->d', padded[row:row + 3, column:column + 3], kernel)
       for column in range(0, x.shape[1], stride)]
      for row in range(0, x.shape[0], stride)])
