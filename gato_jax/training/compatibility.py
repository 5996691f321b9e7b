"""Whether what was saved is of this model and this vocabulary: what a checkpoint's JSON says of its run."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from data_pipelines.errors import InputError
from data_pipelines.sequences.tokenizer import SequenceTokenizer


def config_of(run: dict[str, Any]) -> ml_collections.ConfigDict:
  """The config saved in a checkpoint; JSON's lists become tuples again."""
  return ml_collections.ConfigDict(with_tuples(run['config'])).lock()


def describe_vocabulary(tokenizer: SequenceTokenizer) -> dict[str, Any]:
  """What must be equal for a model's ids to mean the same: JSON."""
  return {**tokenizer.vocabulary.to_json(), 'tokenizer_digest': tokenizer.digest}


def check_vocabulary(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
  """Raises InputError listing the fields that differ."""
  differences = [
      f'{key}: saved {saved.get(key)!r}, wanted {wanted.get(key)!r}'
      for key in sorted({*saved, *wanted}) if saved.get(key) != wanted.get(key)]
  if differences:
    raise InputError(
        'the checkpoint was trained with another vocabulary; use the same data.vocabulary and datasets, or another '
        'workdir:\n  ' + '\n  '.join(differences))


def check_shapes(saved: Mapping[str, list[int]], wanted: Mapping[str, list[int]], where: str) -> None:
  """Raises InputError listing every path whose shape or presence differs."""
  differences = [
      f'{path}: saved {saved.get(path, "nothing")}, wanted {wanted.get(path, "nothing")}'
      for path in sorted({*saved, *wanted}) if saved.get(path) != wanted.get(path)]
  if differences:
    raise InputError(
        f'{where} holds another model; use the config it was trained with, or another workdir:\n  '
        + '\n  '.join(differences))


def with_tuples(value):
  if isinstance(value, dict):
    return {key: with_tuples(inner) for key, inner in value.items()}
  return tuple(value) if isinstance(value, list) else value
