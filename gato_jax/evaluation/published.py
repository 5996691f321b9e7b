"""What others published of agents of the same kind, to stand beside a run's own scores."""

from collections.abc import Iterator
import dataclasses
import json
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Published:
  """One agent's results. Its experts, its episodes and often its tasks are others than ours.

  Attributes:
    name: of the agent.
    source: who published it.
    url: where.
    measure: what the scores are.
    parameters: of the model, in words.
    domains: domain, as it is named here -> `score` and, where published, `interval` (low, high) and `human`, the
      human-normalised score.
    remark: a sentence about the whole.
  """

  name: str
  source: str
  url: str
  measure: str
  parameters: str
  domains: dict[str, dict[str, Any]]
  remark: str

  def score(self, domain: str) -> str:
    """In words, `-` where there is none."""
    result = self.domains.get(domain)
    if result is None:
      return '-'
    low_high = result.get('interval')
    return f'{result["score"]:g}' + (f' ({low_high[0]:g} to {low_high[1]:g})' if low_high else '')


def published_results() -> Iterator[Published]:
  """All there are."""
  for fields in json.loads(Path(__file__).with_name('published_results.json').read_text(encoding='utf-8')):
    yield Published(**fields)
