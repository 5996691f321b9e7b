"""The report page: what it says, that it says what is missing, and that it works in a real Chromium."""

import dataclasses
import html
import json

import numpy as np
import pytest
import yaml

from data_pipelines.errors import InputError
from gato_jax import cli
from gato_jax.config import default_config, mixture_entry
from gato_jax.evaluation.language import LanguageScores
from gato_jax.evaluation.report import build_report, training_summary, write_report
from gato_jax.evaluation.scores import task_score
from gato_jax.evaluation.videos import write_gif
from gato_jax.pages.charts import steps
from gato_jax.pages.report import report_page, write_report_page
from gato_jax.pages.report_run import read_run
from tests.gato_jax import pages_cases, probing_cases

HOSTILE = '<img src=x onerror="console.error(1)">&'
SCORES = {  # task -> episode scores, random, expert
    'classic_control/MountainCar-v0': ((-120.0, -119.0, -121.0), -200.0, -120.0),
    'dm_control/reacher-easy': ((300.0, 500.0, 400.0), 50.0, 950.0),
    'dm_control/cartpole-swingup': ((0.0, 10.0), 30.0, 850.0),
    f'babyai/{HOSTILE}': ((1.0, 1.0), 0.2, 1.0),
}
RECORDS = [
    {'step': step, 'tokens': 90 * step, 'seconds': 0.5 * step,
     'loss_by_source': {'dm_control/a': 4.0 / step, 'dm_control/b': 2.0 / step, HOSTILE: 1.0}} for step in (1, 2, 4, 8)]


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """What an evaluated run leaves, but for weights and data."""
  workdir = tmp_path_factory.mktemp('run')
  config = default_config()
  config.name = HOSTILE
  with config.unlocked():
    config.data.mixture = {'classic_control': mixture_entry(3.0, tasks=('MountainCar-v0',), episodes=3),
                           'digits': mixture_entry(1.0)}
  config.data.dir = str(workdir / 'no data')
  tasks = {name: task_score(name.partition('/')[0], *scores) for name, scores in SCORES.items()}
  folder = workdir / 'evaluation'
  folder.mkdir()
  report = build_report(tasks, LanguageScores(0.6, 0.4, 0.9, 1.5, 2.5), training_summary(RECORDS, config), config)
  write_report({**report, 'not_played': ['own/a']}, folder / 'report.json')
  for step, score in ((4, -160.0), (8, -120.0)):
    one = {'classic_control/MountainCar-v0': task_score('classic_control', (score, score), -200.0, -120.0)}
    of_step = build_report(one, LanguageScores(step / 10), training_summary(RECORDS, config), config)
    (folder / 'steps' / str(step)).mkdir(parents=True)
    write_report({**of_step, 'step': step}, folder / 'steps' / str(step) / 'report.json')
  write_gif([np.full((60, 80, 3), 40 * i, np.uint8) for i in range(5)], folder / 'classic_control.gif')
  (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(record) + '\n' for record in RECORDS))
  (workdir / 'goodput.json').write_text(json.dumps({'seconds': {'step': 75.0, 'data': 25.0}, 'at': 0}))
  return workdir


@pytest.fixture(scope='module')
def whole(workdir):
  """The page with everything on it: weights that never learned anything, and small data."""
  pytest.importorskip('gymnasium')
  pytest.importorskip('sklearn')
  subject = probing_cases.subject()
  text = report_page(read_run(default_config(), str(workdir))._replace(subject=lambda: subject))
  path = workdir / 'whole.html'
  path.write_text(text, encoding='utf-8')
  return path


@pytest.fixture(scope='module')
def driver():
  with pages_cases.chromium() as driver:
    yield driver


def text_of(driver, selector):
  return driver.execute_script('return document.querySelector(arguments[0]).textContent', selector)


@pytest.mark.parametrize(('width', 'dark'), pages_cases.LOOKS)
def test_the_whole_page_is_sound(driver, whole, width, dark):
  pages_cases.open_page(driver, whole, width, dark)
  for details in driver.find_elements('css selector', 'details:not([open]) > summary'):
    driver.execute_script('arguments[0].parentElement.open = true', details)
  assert pages_cases.problems(driver) == []
  assert not driver.find_elements('css selector', '.missing')
  assert driver.find_element('css selector', 'h1').text == f'{HOSTILE}: what it can do'
  assert whole.stat().st_size < 2_000_000


def test_figure_5_is_read_by_keyboard(driver, whole):
  pages_cases.open_page(driver, whole)
  slider = driver.find_element('id', 'figure-5-slider')
  driver.execute_script('arguments[0].focus()', slider)
  pages_cases.press(driver, 'End')
  assert text_of(driver, '#figure-5-share') == '100%'
  assert text_of(driver, '#figure-5-reading').startswith(
      '2 of 4 tasks reach 100% of the expert’s score: classic_control 1 of 1, dm_control 0 of 2')
  line = driver.find_element('id', 'figure-5-line')
  assert line.get_dom_attribute('x1') == line.get_dom_attribute('data-right')
  pages_cases.press(driver, 'Home')
  assert text_of(driver, '#figure-5-reading').startswith('3 of 4 tasks reach 0%')


def test_videos_stand_still_until_they_are_asked_to_move(driver, whole):
  pages_cases.open_page(driver, whole)

  def sources():
    return [image.get_attribute('src') for image in driver.find_elements('css selector', '.video img')]

  still, button = sources(), driver.find_element('id', 'play')
  assert len(still) == 2 and button.get_attribute('aria-pressed') == 'false'
  driver.execute_script('arguments[0].click()', button)
  assert all(len(moving) > len(frame) for moving, frame in zip(sources(), still, strict=True))
  assert button.text == 'Stop the videos'
  driver.execute_script('arguments[0].click()', button)
  assert sources() == still
  pages_cases.open_page(driver, whole, reduced_motion=False)
  assert driver.find_element('id', 'play').get_attribute('aria-pressed') == 'true'


def test_attention_follows_step_and_layer(driver, whole):
  pages_cases.open_page(driver, whole)
  steps = json.loads(text_of(driver, '#attention-data'))
  for step, layer in ((0, 0), (5, 2)):
    for name, value in (('step', step), ('layer', layer)):
      driver.execute_script(f'const select = document.getElementById("attention-{name}"); select.value = "{value}";'
                            'select.dispatchEvent(new Event("change"))')
    picture = steps[step]['pictures'][0]
    rows = [cell.get_attribute('textContent')
            for cell in driver.find_elements('css selector', '#attention-table tbody td:nth-child(2)')]
    assert len(rows) == len(picture['weights'][layer]) == 2
    for head, said in enumerate(rows):
      assert float(said) == pytest.approx(100 * sum(picture['weights'][layer][head]), abs=0.51)
    best = int(np.argmax(picture['weights'][layer][0]))
    label = driver.find_elements('css selector', '#attention-heads svg')[1].get_attribute('aria-label')
    assert f'most on row {best // 4 + 1}, column {best % 4 + 1}' in label
    assert steps[step]['name'] in text_of(driver, '#attention-reading')


def test_a_dataset_can_be_seen_alone_on_the_map(driver, whole):
  pages_cases.open_page(driver, whole)

  def away():
    return {group.get_attribute('data-dataset') for group in driver.find_elements('css selector', '#map-plot g.away')}

  button = driver.find_element('css selector', '#map-legend button[data-dataset="easy_vqa"]')
  driver.execute_script('arguments[0].click()', button)
  assert button.get_attribute('aria-pressed') == 'true'
  assert away() == {'dm_control', 'metaworld', 'babyai', 'digits', 'python_docs'}
  driver.execute_script('arguments[0].click()', button)
  assert not away()


def test_what_is_missing_is_said_and_the_rest_is_shown(workdir, capsys):
  cli.main(['report', f'--workdir={workdir}', f'--out={workdir}/deep/page.html'])
  page = (workdir / 'deep' / 'page.html').read_text()
  assert 'page.html' in capsys.readouterr().out
  for section in ('attention', 'map', 'examples', 'data'):
    part = page.partition(f'<section id="{section}"')[2].partition('</section>')[0]
    assert 'class="quiet missing"' in part
  assert 'Not played, for want of an environment: own/a.' in page
  assert '75.0% of 100 seconds went into steps' in page
  assert '2 checkpoints of this run were evaluated, on 2 episodes a task' in page
  assert 'classic_control from 50 to 100' in page and 'questions answered from 40 to 80' in page
  assert '&lt;img src=x' in page and '<img src=x' not in page
  assert 'JAT (published)' in page and '93.2' in page


def test_numbers_of_the_page_are_the_reports(workdir):
  run = read_run(default_config(), str(workdir))
  page = report_page(run)
  low, high = run.tasks['dm_control/reacher-easy'].interval
  assert f'{low:.1f} to {high:.1f}' in page
  assert '2 of 4 tasks in 3 domains played at half' in page
  written = page.partition('aria-label="Config"><code>')[2].partition('</code>')[0]
  assert yaml.safe_load(html.unescape(written))['model']['layers'] == run.config.model.layers


def test_a_report_from_before_there_were_intervals_is_read(workdir, tmp_path):
  report = json.loads((workdir / 'evaluation' / 'report.json').read_text())
  for task in report['tasks'].values():
    for key in ('episode_scores', 'interval', 'human_normalised'):
      del task[key]
  (tmp_path / 'evaluation').mkdir()
  write_report(report, tmp_path / 'evaluation' / 'report.json')
  page = write_report_page(default_config(), str(tmp_path)).read_text()
  assert 'There are no intervals' in page and 'metrics.jsonl with losses' in page and 'only one step' in page


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'gato-jax evaluate'), ('{"tasks": {', 'cannot be read'), ('[]', 'cannot be read'),
    ('{"tasks": {"a": {"score": 1}}, "config": {}}', 'cannot be read')])
def test_without_a_report_it_says_which_command_makes_one(tmp_path, content, message):
  if content is not None:
    (tmp_path / 'evaluation').mkdir()
    (tmp_path / 'evaluation' / 'report.json').write_text(content)
  with pytest.raises(InputError, match=message):
    write_report_page(default_config(), str(tmp_path))


def test_a_place_that_cannot_be_written_is_named(workdir):
  with pytest.raises(InputError, match='--out'):
    write_report_page(default_config(), str(workdir), str(workdir / 'metrics.jsonl' / 'page.html'))


def test_a_staircase_has_the_value_of_its_right_end():
  xs, ys = steps(np.array([0, 1, 2]), np.array([5, 4, 2]))
  assert list(zip(xs.tolist(), ys.tolist(), strict=True)) == [(0, 4), (1, 4), (1, 2), (2, 2)]


def test_tasks_without_intervals_are_drawn(workdir):
  run = read_run(default_config(), str(workdir))
  tasks = {name: dataclasses.replace(task, interval=None, human_normalised=12.5) for name, task in run.tasks.items()}
  page = report_page(run._replace(tasks=tasks))
  assert 'human-normalised' in page and '12.5' in page
