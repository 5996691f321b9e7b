import json

import imageio.v3 as imageio
import numpy as np
import pytest
from rich.console import Console

from data_pipelines.environments.registry import make, make_expert
from gato_jax.config import default_config
from gato_jax.evaluation import plots
from gato_jax.evaluation.language import LanguageScores
from gato_jax.evaluation.plots import plot_figure_5, plot_loss, plot_scores
from gato_jax.evaluation.report import build_report, print_report, training_summary, write_report
from gato_jax.evaluation.scores import TaskScore
from gato_jax.evaluation.videos import MAX_FRAMES, expert_frames, frame_interval, write_gif

TASKS = {
    'dm_control/reacher-easy': TaskScore('dm_control', 500.0, 50.0, 950.0, 50.0, 2, (400.0, 600.0), (38.9, 61.1)),
    'babyai/GoToLocalS5N2-v0': TaskScore('babyai', 0.9, 0.1, 1.0, 88.9, 10),
    'classic_control/LunarLander-v3': TaskScore('classic_control', -147.66, -180.25, 236.61, 8.1, 10),
    'metaworld/button-press-topdown-v3': TaskScore('metaworld', 1.0, 0.0, 1.0, 100.0, 10),
}
LANGUAGE = LanguageScores(0.6, 0.35, 0.5, 1.5, 2.5, 3.25)
RECORDS = [
    {'step': 10, 'tokens': 9_000, 'seconds': 5.0, 'loss_by_source': {'dm_control/a': 2.0, 'dm_control/b': 4.0}},
    {'step': 20, 'tokens': 20_000, 'seconds': 8.0, 'loss_by_source': {'dm_control/a': 1.0, 'easy_vqa': 0.5}},
]


@pytest.fixture
def config():
  config = default_config()
  config.training.batch_size = 1
  return config


def test_report_has_the_agreed_keys(config, tmp_path):
  report = build_report(TASKS, LANGUAGE, training_summary(RECORDS, config), config)
  write_report(report, tmp_path / 'report.json')
  read = json.loads((tmp_path / 'report.json').read_text())
  assert set(read) == {'tasks', 'summary', 'vqa', 'captions', 'text', 'training', 'config'}
  assert read['tasks']['dm_control/reacher-easy'] == {
      'domain': 'dm_control', 'score': 500.0, 'random': 50.0, 'expert': 950.0, 'normalised': 50.0, 'episodes': 2,
      'episode_scores': [400.0, 600.0], 'interval': [38.9, 61.1], 'human_normalised': None}
  assert read['summary'] == {
      'share_at_or_above_50': 0.75,
      'mean_by_domain': {'dm_control': 50.0, 'babyai': 88.9, 'classic_control': 8.1, 'metaworld': 100.0},
      'interval_by_domain': {'dm_control': pytest.approx([350 / 9, 550 / 9]), 'babyai': None, 'classic_control': None,
                             'metaworld': None},
      'human_normalised_by_domain': {}}
  assert read['vqa'] == {'accuracy': 0.6, 'majority': 0.35}
  assert read['captions'] == {'accuracy': 0.5, 'cider': 3.25}
  assert read['text'] == {
      'nats_per_byte': 1.5, 'bits_per_byte': pytest.approx(1.5 / np.log(2)), 'unigram_nats_per_byte': 2.5,
      'unigram_bits_per_byte': pytest.approx(2.5 / np.log(2))}
  assert read['training'] == {
      'steps': 20, 'tokens': 20_000, 'seconds': 8.0, 'packing_fill': 20_000 / (20 * 1024), 'tokens_per_second': 2500.0}
  assert read['config']['data']['sequence_length'] == 1024


def test_what_was_not_measured_is_null_and_printed_as_a_dash(config):
  report = build_report({}, LanguageScores(), training_summary([], config), config)
  assert report['summary']['share_at_or_above_50'] is None
  assert set(report['training'].values()) == set(report['vqa'].values()) == {None}
  console = Console(record=True, width=120)
  print_report(report, console)
  assert 'questions about pictures answered' in (text := console.export_text()) and '-' in text


def test_tables_show_every_task_and_each_domains_mean(config):
  console = Console(record=True, width=80)
  print_report(build_report(TASKS, LANGUAGE, training_summary(RECORDS, config), config), console)
  text = console.export_text()
  for part in ('  reacher-easy', '950.00', '88.9', '  GoToLocalS5N2-v0', '  button-press-topdown-v3', '75.0%', '60.0%',
               '1.500', '2.164', '3.250', '20,000', '50.0 (39 to 61)', 'JAT, published', '65 (64 to 67)', '93.2'):
    assert part in text


def test_a_nan_never_reaches_the_file(config, tmp_path):
  report = build_report({}, LanguageScores(vqa_accuracy=float('nan')), {}, config)
  with pytest.raises(ValueError):
    write_report(report, tmp_path / 'report.json')


def test_plots_are_pictures_with_ink(tmp_path):
  plot_loss(RECORDS, tmp_path / 'loss.png')
  plot_scores(TASKS, tmp_path / 'scores.png')
  plot_figure_5(TASKS, tmp_path / 'figure_5.png')
  plot_figure_5({}, tmp_path / 'nothing.png')
  plot_loss([], tmp_path / 'no_loss.png')
  for name in ('loss', 'scores', 'figure_5'):
    picture = imageio.imread(tmp_path / f'{name}.png')
    assert picture.shape[0] > 200 and picture.shape[1] > 600
    assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 20


def test_plots_leave_nothing_out_for_want_of_colours(monkeypatch, tmp_path):
  figures = []
  monkeypatch.setattr(plots, 'save', lambda figure, path: figures.append(figure))
  losses = {f'dataset{number}/a': 1.0 for number in range(30)}
  plot_loss([{'step': step, 'loss_by_source': losses} for step in (1, 2)], tmp_path)
  plot_scores({f'{number}/a': TaskScore(str(number), 1.0, 0.0, 1.0, 100.0, 1) for number in range(30)}, tmp_path)
  lines, bars = (figure.axes[0] for figure in figures)
  assert len(lines.get_legend().texts) == 30 and len(bars.patches) == 30


def test_gif_keeps_its_frames_and_is_made_small(tmp_path):
  frames = [np.full((600, 800, 3), 60 * i, np.uint8) for i in range(4)]
  write_gif(frames, tmp_path / 'suite' / 'a.gif')
  read = imageio.imread(tmp_path / 'suite' / 'a.gif', index=None)
  assert read.shape[:3] == (4, 200, 267)
  np.testing.assert_allclose(read[..., 0].mean((1, 2)), [0, 60, 120, 180], atol=2)
  assert frame_interval(1000) * MAX_FRAMES >= 1000
  assert frame_interval(64) == 1


def test_the_experts_video_is_of_the_experts_episode():
  pytest.importorskip('gymnasium')
  frames = expert_frames('classic_control/MountainCar-v0', 1_000_000)
  environment = make('classic_control/MountainCar-v0')
  expert, observation = make_expert(environment), environment.reset(1_000_000)
  np.testing.assert_array_equal(frames[0], environment.render())
  expert.reset()
  steps, ended = 0, False
  while not ended:
    result = environment.step(expert.act(observation))
    observation, ended, steps = result.observation, result.terminated or result.truncated, steps + 1
  np.testing.assert_array_equal(frames[-1], environment.render())
  assert len(frames) == 1 + steps // 2 + steps % 2  # 200 steps at most: every second one is drawn, and the last
  environment.close()
