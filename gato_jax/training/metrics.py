"""What a run reports: sums of the steps since the last record, written as JSONL, TensorBoard and one line of text."""

from collections.abc import Callable, Sequence
import contextlib
import json
import logging
import os
import pathlib
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from data_pipelines.errors import InputError
from gato_jax.atomic import write_atomically

LOGGER = logging.getLogger(__name__)
FILE = 'metrics.jsonl'
TENSORBOARD_FOLDER = 'tensorboard'
SUMS = ('loss_by_source', 'correct_by_source', 'weight_by_source', 'targets_by_source')


class Meter:
  """Adds up the metrics of steps, on the host.

  Its state is JSON and lies in every checkpoint, so that a resumed run writes the same records as one that was never
  interrupted, times aside.

  Args:
    source_names: names of the datasets, in the order of the `*_by_source` metrics.
    positions: B * L, positions of a batch.
    flops: targets of a batch -> FLOPs of its step.
    peak: FLOP/s of all devices together.
  """

  def __init__(self, source_names: Sequence[str], positions: int, flops: Callable[[float], float], peak: float):
    self._source_names, self._positions, self._flops, self._peak = tuple(source_names), positions, flops, peak
    self._total = {'steps': 0, 'tokens': 0, 'targets': 0, 'seconds': 0.0}
    self._last_record: dict[str, Any] = {}
    self._clear()
    self._since = time.perf_counter()

  @property
  def last_loss(self) -> float | None:
    """Of the last record; None where all its steps were skipped."""
    return self._last_record.get('loss')

  def add(self, metrics: dict[str, np.ndarray]) -> None:
    """Takes in one step's metrics, as `make_train_function` names them; a skipped step's loss is left out."""
    self._latest['learning_rate'] = float(metrics['learning_rate'])
    self._latest['skipped_steps'] = int(metrics['skipped'])
    targets = int(metrics['targets_by_source'].sum())
    for counts in (self._interval, self._total):
      counts['steps'] += 1
      counts['tokens'] += int(metrics['tokens'])
      counts['targets'] += targets
    self._interval['flops'] += self._flops(targets)
    if not metrics['nonfinite']:
      self._latest['gradient_norm'] = float(metrics['gradient_norm'])
      for name in SUMS:
        self._interval[name] += metrics[name].astype(np.float64)

  def record(self) -> dict[str, Any]:
    """The record of the steps since the last one; losses are means over the targets' weight, in nats.

    Where all of them were skipped it has no loss, accuracy and gradient norm: 0 would be the best that ever was.
    """
    self._settle_clock()
    interval, seconds = self._interval, max(self._interval['seconds'], 1e-9)
    weight = interval['weight_by_source']
    means = {
        'loss': interval['loss_by_source'].sum() / weight.sum(),
        'accuracy': interval['correct_by_source'].sum() / weight.sum(),
    } if weight.sum() > 0 else {}
    record = {
        **{name: float(mean) for name, mean in means.items()},
        'loss_by_source': self._means(interval['loss_by_source'], weight),
        'accuracy_by_source': self._means(interval['correct_by_source'], weight),
        **self._latest,
        'tokens': self._total['tokens'],
        'targets': self._total['targets'],
        'packing_fill': interval['tokens'] / (interval['steps'] * self._positions),
        'seconds': self._total['seconds'],
        'tokens_per_second': interval['tokens'] / seconds,
        'targets_per_second': interval['targets'] / seconds,
        'mfu': interval['flops'] / seconds / self._peak,
    }
    self._last_record = record
    self._clear()
    return record

  def summary(self) -> dict[str, Any]:
    """Of the whole run, interruptions included (`seconds` counts from the first batch on, compilation included)."""
    self._settle_clock()
    total = self._total
    return {
        **total,
        'packing_fill': _ratio(total['tokens'], total['steps'] * self._positions),
        'tokens_per_second': _ratio(total['tokens'], total['seconds']),
        **{name: self._last_record.get(name) for name in ('loss', 'loss_by_source', 'accuracy_by_source')},
    }

  def to_json(self) -> dict[str, Any]:
    self._settle_clock()
    interval = {name: value.tolist() if name in SUMS else value for name, value in self._interval.items()}
    return {
        'source_names': list(self._source_names), 'interval': interval, 'total': dict(self._total),
        'latest': dict(self._latest), 'last_record': self._last_record}

  def load_json(self, state: dict[str, Any]) -> None:
    """Goes on from a state of `to_json`; the clock starts now.

    Sums since the last record are dropped if the datasets are no longer the same.
    """
    self._total, self._latest, self._last_record = dict(state['total']), state['latest'], state['last_record']
    if state['source_names'] == list(self._source_names):
      self._interval = {name: np.array(value) if name in SUMS else value for name, value in state['interval'].items()}
    self._since = time.perf_counter()

  def _means(self, sums: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    columns = zip(self._source_names, sums.tolist(), weights.tolist(), strict=True)
    return {name: total / weight for name, total, weight in columns if weight > 0}

  def _settle_clock(self) -> None:
    now = time.perf_counter()
    for counts in (self._interval, self._total):
      counts['seconds'] += now - self._since
    self._since = now

  def _clear(self) -> None:
    self._interval: dict[str, Any] = {'steps': 0, 'tokens': 0, 'targets': 0, 'seconds': 0.0, 'flops': 0.0}
    self._interval.update({name: np.zeros(len(self._source_names)) for name in SUMS})
    self._latest: dict[str, Any] = {}


class Writer:
  """Writes records to `metrics.jsonl`, to TensorBoard files and to the terminal, and returns when they are written.

  Args:
    workdir: the run's directory.
    first_step: the step the run goes on from; records of later steps, left by a run that was killed, are removed.
    steps: how many the run has in all.

  Raises:
    InputError: the directory cannot be written.
  """

  def __init__(self, workdir: str, first_step: int, steps: int):
    self._workdir = pathlib.Path(workdir)
    with self._clear_errors():
      (self._workdir / TENSORBOARD_FOLDER).mkdir(parents=True, exist_ok=True)
      path = self._workdir / FILE
      _drop_records_after(path, first_step)
      self._file = path.open('a', encoding='utf-8')
      # Not tensorboardX's SummaryWriter: its thread dies of a full disk, and the run would wait for it for ever.
      events = self._workdir / TENSORBOARD_FOLDER / 'events'
      self._tensorboard = EventsWriter(str(events), f'.{first_step}.{os.getpid()}')
      purge = SessionLog(status=SessionLog.START)
      self._tensorboard.write_event(Event(step=first_step + 1, wall_time=time.time(), session_log=purge))
    self._terminal = _Terminal(first_step, steps)

  def write(self, step: int, record: dict[str, Any]) -> None:
    """Writes one record.

    Raises:
      InputError: the disk is full or not writable.
    """
    values = [Summary.Value(tag=name, simple_value=value) for name, value in _flat(record)]
    with self._clear_errors():
      self._file.write(json.dumps({'step': step, **record}) + '\n')
      self._file.flush()
      self._tensorboard.write_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
      self._tensorboard.flush()
    self._terminal.show(step, record)

  def close(self) -> None:
    """Raises InputError where something could not be written."""
    self._terminal.close()
    with self._clear_errors():
      self._file.close()
      self._tensorboard.close()

  @contextlib.contextmanager
  def _clear_errors(self):
    try:
      yield
    except OSError as error:
      raise InputError(
          f'metrics cannot be written to {self._workdir}: {error}. Make room or make it writable, then run the same '
          'command again') from error


def read_records(workdir: str) -> list[dict[str, Any]]:
  """The records of `metrics.jsonl`, oldest first; a last line that was cut short is left out."""
  path = pathlib.Path(workdir) / FILE
  records = []
  if path.exists():
    for line in path.read_text(encoding='utf-8').splitlines():
      try:
        records.append(json.loads(line))
      except json.JSONDecodeError:
        LOGGER.warning('%s has a half-written line; left out', path)
  return records


class _Terminal:
  """One moving line on a terminal, plain lines elsewhere."""

  def __init__(self, first_step: int, steps: int):
    console = Console()
    self._steps = steps
    self._progress = None
    if console.is_terminal:
      columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
      self._progress = Progress(*columns, console=console)
      self._task = self._progress.add_task('training', total=steps, completed=first_step)
      self._progress.start()

  def show(self, step: int, record: dict[str, Any]) -> None:
    loss = f'loss {record["loss"]:.4f} accuracy {record["accuracy"]:.3f}' if 'loss' in record else 'no loss'
    text = (
        f'{loss} lr {record["learning_rate"]:.2e} '
        f'{record["tokens_per_second"]:,.0f} tokens/s {record["targets_per_second"]:,.0f} targets/s '
        f'fill {record["packing_fill"]:.1%} MFU {record["mfu"]:.1%}')
    if record['skipped_steps']:
      text += f' skipped {record["skipped_steps"]}'
    if self._progress:
      self._progress.update(self._task, completed=step, description=text)
    else:
      print(f'step {step}/{self._steps} {text}', flush=True)

  def close(self) -> None:
    if self._progress:
      self._progress.stop()


def _drop_records_after(path: pathlib.Path, step: int) -> None:
  kept = [record for record in read_records(str(path.parent)) if record['step'] <= step]
  if path.exists():
    write_atomically(path, ''.join(json.dumps(record) + '\n' for record in kept))


def _flat(record: dict[str, Any]):
  for name, value in record.items():
    if isinstance(value, dict):
      yield from ((f'{name}/{key}', inner) for key, inner in value.items())
    else:
      yield name, value


def _ratio(numerator: float, denominator: float) -> float:
  return float(numerator) / float(denominator) if denominator else 0.0
