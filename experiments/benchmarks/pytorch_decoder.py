"""What the train step is compared with: a plain, well-written PyTorch decoder of the same width and depth.

Pre-norm blocks, causal `scaled_dot_product_attention`, a GELU feed-forward of four times the width, learned positions,
a tied head, fused AdamW, float32. Neither segments nor patches. torch is the optional extra `torch`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from data_pipelines.sequences.rows import PackedBatch


def make_step(
    layers: int, width: int, heads: int, length: int, vocabulary_size: int, *, head_on_targets: bool,
    compiled: bool) -> Callable[[PackedBatch], Any]:
  """A train step of a model with random weights.

  Args:
    layers, width, heads, length, vocabulary_size: the decoder's sizes.
    head_on_targets: the head reads the rows with a target only, rather than all of them.
    compiled: by `torch.compile`.

  Returns:
    A function of a batch, of which it looks at tokens, targets and weights: updates the model, returns the mean loss
    before the update, a scalar tensor.
  """
  import torch

  torch.manual_seed(0)
  model = _decoder(layers, width, heads, length, vocabulary_size)
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

  def loss(tokens, targets, rows):
    hidden_RxD = model(tokens).flatten(0, 1)
    if head_on_targets:
      hidden_RxD, targets = hidden_RxD[rows], targets[rows]
    return torch.nn.functional.cross_entropy(hidden_RxD @ model.tokens.weight.T, targets, ignore_index=-1)

  loss = torch.compile(loss) if compiled else loss

  def step(batch):
    targets = np.where(batch.loss_weights > 0, batch.targets, -1).reshape(-1)
    rows = torch.as_tensor(np.flatnonzero(batch.loss_weights))
    value = loss(torch.as_tensor(batch.tokens, dtype=torch.long), torch.as_tensor(targets, dtype=torch.long), rows)
    value.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return value.detach()

  return step


def _decoder(layers: int, width: int, heads: int, length: int, vocabulary_size: int):
  from torch import nn

  class Block(nn.Module):

    def __init__(self):
      super().__init__()
      self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
      self.qkv, self.output = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
      self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
      qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
      y = nn.functional.scaled_dot_product_attention(*qkv, is_causal=True)
      x = x + self.output(y.transpose(1, 2).flatten(2))
      return x + self.down(nn.functional.gelu(self.up(self.feed_forward_norm(x)), approximate='tanh'))

  class Decoder(nn.Module):

    def __init__(self):
      super().__init__()
      self.tokens, self.positions = nn.Embedding(vocabulary_size, width), nn.Embedding(length, width)
      self.blocks = nn.ModuleList(Block() for _ in range(layers))
      self.final_norm = nn.LayerNorm(width)
      for table in (self.tokens, self.positions):
        nn.init.normal_(table.weight, std=width**-0.5)

    def forward(self, tokens):
      x = self.tokens(tokens) + self.positions.weight[:tokens.shape[1]]
      for block in self.blocks:
        x = block(x)
      return self.final_norm(x)

  return Decoder()
