"""The model card: what the model was trained on, what it reached, what it cannot do."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import ml_collections

from data_pipelines.datasets.catalogue import dataset_type, entry_shares
from gato_jax.evaluation.report_files import FOLDER, REPORT, step_folder
from gato_jax.export.tasks import KnownTask

_CARD = '''# {name}

A generalist agent in the manner of [Gato](https://arxiv.org/abs/2205.06175), trained with gato_jax: one transformer
that plays, moves and answers, all as one stream of tokens.

{parameters:,} parameters, stored as {dtype}; {layers} layers of width {width}, rows of {length} tokens; step {step}
of its training.

```python
import gato_jax
agent = gato_jax.load('this folder')
policy = agent.policy(env.observation_space, env.action_space)        # gymnasium's spaces or dm_env's specs
action = policy.act(observation)
agent.caption(image); agent.answer(image, question); agent.complete(text)
```

## Data

| dataset | share of the positions | stands for | tasks | licence |
|---|---|---|---|---|
{data}

## Scores

{scores}

## Limits

- It was trained on simulators and small corpora; what it does elsewhere was not measured. It is no controller for a
  machine that can hurt someone.
- Outside the tasks above it acts, but nothing says well. A task's episode starts best with a demonstration of it.
- Its words are those of its texts; it does not know what is true.

## Licence

The weights are under Apache-2.0, as gato_jax is. The data keep the licences above.
'''


def model_card(workdir: pathlib.Path, step: int, parameters: int, dtype: str, config: ml_collections.ConfigDict,
               tasks: Mapping[str, KnownTask]) -> str:
  """Markdown; the scores are those of `workdir`'s report of this step, if it was evaluated."""
  return _CARD.format(
      name=config.name, parameters=parameters, dtype=dtype, layers=config.model.layers, width=config.model.width,
      length=config.data.sequence_length, step=step, data=_data_rows(config), scores=_scores(workdir, step, tasks))


def _data_rows(config: ml_collections.ConfigDict) -> str:
  rows = []
  for name, share in entry_shares(config.data.mixture).items():
    entry = config.data.mixture[name]
    kind = dataset_type(entry.dataset or name)
    rows.append(f'| {name} | {share:.1%} | {kind.row or "-"} | {len(entry.tasks) or "-"} | '
                f'{kind.licence or "its owner" + chr(39) + "s"} |')
  return '\n'.join(rows)


def _scores(workdir: pathlib.Path, step: int, tasks: Mapping[str, KnownTask]) -> str:
  path = step_folder(workdir / FOLDER, step) / REPORT
  if not path.is_file():
    return f'Not measured. It was trained on {len(tasks)} control tasks.'
  report = json.loads(path.read_text())
  rows = '\n'.join(f'| {name} | {task["score"]:.2f} | {task["random"]:.2f} | {task["expert"]:.2f} | '
                   f'{task["normalised"]:.0f} | {task["episodes"]} |' for name, task in report['tasks'].items())
  share = report['summary']['share_at_or_above_50']
  above = '' if share is None else f' {share:.0%} of the tasks are at or above half of the expert\'s score.'
  return (f'0 is a random policy, 100 the expert.{above}\n\n'
          '| task | score | random | expert | normalised | episodes |\n|---|---|---|---|---|---|\n'
          f'{rows}\n\n{_language(report)}')


def _language(report: Mapping[str, Any]) -> str:
  vqa, captions, text = report['vqa'], report['captions'], report['text']
  lines = []
  if vqa['accuracy'] is not None:
    lines.append(f'- questions about pictures right: {vqa["accuracy"]:.1%} '
                 f'(the commonest answer: {vqa["majority"]:.1%})')
  if captions['accuracy'] is not None:
    lines.append(f'- captions exactly right: {captions["accuracy"]:.1%}')
  if text['nats_per_byte'] is not None:
    lines.append(f'- held-out text: {text["nats_per_byte"]:.3f} nats a byte '
                 f'(unigram model: {text["unigram_nats_per_byte"]:.3f})')
  return '\n'.join(lines)
