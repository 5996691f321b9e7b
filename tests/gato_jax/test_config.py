"""Config files and command-line overrides."""

import pytest

from data_pipelines.errors import InputError
from gato_jax.config import default_config, mixture_entry
from gato_jax.config_file import load_config

QUICKSTART = 'experiments/configs/quickstart.py'


def test_defaults_are_the_papers_79m():
  config = default_config()
  assert (config.model.layers, config.model.width, config.model.heads, config.model.head_size) == (8, 768, 24, 32)
  assert config.model.feed_forward == 3072
  assert (config.data.sequence_length, config.training.batch_size, config.training.steps) == (1024, 512, 1_000_000)
  assert (config.training.schedule.peak, config.training.schedule.warmup_steps) == (1e-4, 15_000)
  assert (config.data.prompt.share, config.data.prompt.from_end) == (0.25, 0.5)
  vocabulary = config.data.vocabulary
  assert (vocabulary.text_size, vocabulary.bins, vocabulary.mu, vocabulary.m) == (32_000, 1024, 100.0, 256.0)


def test_overrides_are_typed():
  config = load_config(QUICKSTART, ['--config.model.layers=3', '--config.data.mask_question=false',
                                    '--config.training.schedule.peak=1', '--config.data.mixture.babyai.weight=0.5'])
  assert config.model.layers == 3
  assert config.data.mask_question is False
  assert config.training.schedule.peak == 1.0
  assert config.data.mixture.babyai.weight == 0.5


def test_argument_selects_a_variant():
  assert load_config(f'{QUICKSTART}:tiny').training.steps < load_config(QUICKSTART).training.steps


def test_loaded_config_is_locked():
  with pytest.raises((AttributeError, KeyError)):
    load_config(QUICKSTART).model.depth = 3
  with pytest.raises((AttributeError, KeyError)):
    mixture_entry(0.1, weigth=1)


@pytest.mark.parametrize(
    'override, names',
    [
        ('--config.model.layer=3', ['model.layer', 'layers']),
        ('--config.training.step=1', ['training.step', 'steps']),
        ('--config.data.mixture.babyia.weight=1', ['babyia', 'babyai']),
        ('--config.model.layers=many', ['model.layers', 'many']),
    ],
)
def test_bad_overrides_name_the_key_and_the_nearest(override, names):
  with pytest.raises(InputError) as error:
    load_config(QUICKSTART, [override])
  assert all(name in str(error.value) for name in names)


def test_missing_file_and_unknown_variant():
  with pytest.raises(InputError, match='nope.py'):
    load_config('nope.py')
  with pytest.raises(InputError, match='^--config=.*:huge: .*no variant huge'):
    load_config(f'{QUICKSTART}:huge')


def test_file_is_found_from_anywhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert load_config(QUICKSTART).name == 'quickstart'
