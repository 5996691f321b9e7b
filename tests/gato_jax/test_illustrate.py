"""The explorer page, opened in a real Chromium, against what Python says of the same rows."""

import dataclasses
import re
from types import SimpleNamespace

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.datasets.episodes import CaptionedImage
from data_pipelines.environments.specs import ArraySpec
from data_pipelines.errors import InputError
from data_pipelines.explained_rows import RowReader
from data_pipelines.provenance import KINDS
from gato_jax.config import default_config, mixture_entry
from gato_jax.pages.illustrate import build_page, illustrate
from gato_jax.pages.predictions import predict
from gato_jax.training.restore import Trained
from tests.data_pipelines.token_cases import control_source, data_config, mixed_sources, tokenizer
from tests.gato_jax import pages_cases
from tests.gato_jax.model_cases import random_model

HOSTILE = '</script><img src=x onerror="console.error(1)">'
ROWS = 4


@pytest.fixture(scope='module')
def driver():
  with pages_cases.chromium() as driver:
    yield driver


@pytest.fixture(scope='module')
def reader():
  return RowReader(hostile_config().data, hostile_sources(), tokenizer(), 0)


@pytest.fixture(scope='module')
def model():
  return nnx.merge(*random_model(vocabulary=tokenizer().vocabulary))


@pytest.fixture(scope='module')
def path(reader, model, tmp_path_factory):
  path = tmp_path_factory.mktemp('page') / 'illustrate.html'
  path.write_text(build_page(hostile_config(), reader, ROWS, Trained(model, tokenizer(), None, 7)))
  return path


def hostile_config():
  data = data_config(patches_per_row=128)
  for entry in data.mixture.values():
    entry.dataset = ''
  return SimpleNamespace(name=HOSTILE, seed=0, data=data, model=SimpleNamespace(width=16))


def hostile_sources():
  """Names, captions and missions that would be markup."""
  sources = mixed_sources()
  task = dataclasses.replace(sources[1].task, name=f'metaworld/{HOSTILE}', observation={
      f'state{HOSTILE}': ArraySpec('continuous', (9,))})
  sources[1] = control_source(task, 20, 60)
  for episode in sources[3].episodes:
    episode.observation['mission'][:] = [HOSTILE] * episode.length
  sources[5].episodes = [CaptionedImage(episode.image, HOSTILE) for episode in sources[5].episodes]
  return sources


def tokens_of(driver, selector):
  """The face of each token of a strip, and its label."""
  return driver.execute_script(
      f"return [...document.querySelectorAll('{selector} .token')].map((token) => "
      "[token.firstElementChild.textContent, token.getAttribute('aria-label')])")


def facts(driver):
  """What is shown of the token in hand."""
  return dict(driver.execute_script(
      "return [...document.querySelectorAll('#inspector dt')].map((name) => "
      "[name.textContent, name.nextElementSibling.textContent])"))


def choose(driver, row):
  driver.execute_script(
      "const choice = document.getElementById('row'); choice.value = arguments[0];"
      "choice.dispatchEvent(new Event('change'))", str(row))


def focus(driver, i):
  driver.execute_script("document.getElementById('packed').children[arguments[0]].focus()", i)


@pytest.mark.parametrize(('width', 'dark'), pages_cases.LOOKS)
def test_the_page_is_sound_whatever_its_data_says(driver, path, width, dark):
  pages_cases.open_page(driver, path, width, dark)
  assert pages_cases.problems(driver) == []
  assert driver.execute_script("return document.querySelectorAll('[onerror]').length") == 0


@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('view', ['segment', 'prompt', 'target', 'dataset', 'surprise'])
def test_every_view_is_sound_with_a_token_in_hand(driver, path, view, dark):
  pages_cases.open_page(driver, path, pages_cases.PHONE, dark)
  focus(driver, 3)
  driver.execute_script('document.querySelector(`input[value="${arguments[0]}"]`).click()', view)
  assert driver.find_element('id', 'inspector').is_displayed()
  assert pages_cases.problems(driver) == []


def test_sections_follow_the_order_of_teaching(driver, path):
  pages_cases.open_page(driver, path)
  assert [heading.text for heading in driver.find_elements('css selector', 'h2')] == [
      'Modalities in and out', 'One flat sequence', 'What is learned: the loss mask', 'The control loop', 'The data',
      'From values to tokens', 'Timestep, episode, packed row']
  assert path.stat().st_size < 3e6


def test_a_row_shows_what_its_tokens_stand_for(driver, path, reader):
  pages_cases.open_page(driver, path)
  for number in range(ROWS):
    explained = reader.packed(number)
    choose(driver, number)
    shown = tokens_of(driver, '#packed')
    assert len(shown) == len(explained.origins)
    for i, (origin, (face, label)) in enumerate(zip(explained.origins, shown, strict=True)):
      assert label.startswith(f'{i}: {origin.kind}')
      hidden = explained.row.tokens[i] == tokenizer().vocabulary.hidden_action_id
      if origin.kind == 'text':
        assert face == origin.value.replace(' ', '\u2423').replace('\n', '\u23ce')
      elif hidden:
        assert face == '?'
      elif origin.kind.startswith('discrete'):
        assert int(face) == origin.value
      elif origin.kind == 'continuous observation':
        # a bin of the mu-law's is 2 ln(mu m + 1) / bins wide, relative to the value; two digits are shown
        assert float(face) == pytest.approx(origin.value, rel=0.07, abs=2e-4)
      elif origin.kind == 'continuous action':
        assert float(face) == pytest.approx(origin.value, rel=0.06, abs=1 / 1024)
      assert (', predicts ' in label) == (explained.row.loss_weights[i] > 0)


def test_the_token_in_hand(driver, path, reader, model):
  pages_cases.open_page(driver, path)
  explained = reader.packed(1)
  row = explained.row
  (predictions,) = predict(model, [row])
  choose(driver, 1)
  by_kind = {origin.kind: i for i, origin in enumerate(explained.origins)}
  for i in by_kind.values():
    focus(driver, i)
    origin, shown = explained.origins[i], facts(driver)
    assert shown['id'].split(',')[0] == str(row.tokens[i])
    assert shown['item'] == origin.item
    assert shown['dataset'] == reader.sources[origin.source].name
    assert shown['episode'].startswith(f'{origin.episode}, timestep {origin.timestep}')
    assert shown['position'] == f'{i} in the row, {row.positions[i]} in segment {row.segment_ids[i]}'
    guesses = driver.find_elements('css selector', '#inspector li')
    if row.loss_weights[i]:
      assert shown['target'].endswith(f'(id {row.targets[i]})')
      assert [guess.find_element('css selector', 'code').get_attribute('title') for guess in guesses] == [
          f'id {token}' for token in predictions.likeliest[i]]
      said = driver.find_element('css selector', '#inspector div div > p').text
      assert float(re.search(r'([\d.e-]+)%', said)[1]) == pytest.approx(100 * predictions.target_chances[i], rel=0.01)
    else:
      assert shown['target'].startswith('none') and not guesses


def test_intervals_of_patches(driver, path, reader):
  pages_cases.open_page(driver, path)
  number = next(number for number in range(ROWS) if (reader.packed(number).row.patch_positions < 256).sum() > 17)
  explained = reader.packed(number)
  choose(driver, number)
  for slot in (0, 17):
    focus(driver, int(explained.row.patch_positions[slot]))
    (top, bottom), (left, right) = explained.row.patch_intervals[slot]
    assert facts(driver)['patch'] == f'rows {top} to {bottom}, columns {left} to {right} of 128'


def test_keys_walk_through_the_tokens(driver, path):
  pages_cases.open_page(driver, path)
  focus(driver, 0)

  def place():
    return int(driver.execute_script('return document.activeElement.dataset.i'))

  for keys, wanted in ((('ArrowRight', 'ArrowRight', 'ArrowLeft'), 1), (('Home', 'ArrowLeft'), 0)):
    pages_cases.press(driver, *keys)
    assert place() == wanted
  pages_cases.press(driver, 'ArrowDown')
  below = place()
  assert below > 5
  pages_cases.press(driver, 'ArrowUp')
  assert place() == 0
  pages_cases.press(driver, 'End')
  assert place() == len(driver.find_elements('css selector', '#packed .token')) - 1
  assert driver.execute_script("return document.querySelectorAll('#packed [tabindex=\"0\"]').length") == 1
  pages_cases.press(driver, 'Escape')
  assert not driver.find_element('id', 'inspector').is_displayed()
  assert place() == len(driver.find_elements('css selector', '#packed .token')) - 1


def test_a_press_on_the_rows_goes_to_that_token(driver, path):
  from selenium.webdriver import ActionChains

  pages_cases.open_page(driver, path)
  overview = driver.find_element('id', 'overview')
  driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", overview)
  size = overview.size
  aside, down = int(size['width'] * (100.5 / 256 - 0.5)), int(size['height'] * (2.5 / ROWS - 0.5))
  ActionChains(driver).move_to_element_with_offset(overview, aside, down).click().perform()
  assert driver.find_element('id', 'row').get_property('value') == '2'
  assert facts(driver)['position'].startswith('100 in the row')


def test_the_rows_as_a_whole_are_painted_by_the_view(driver, path, reader):
  pages_cases.open_page(driver, path)
  colour_of = driver.execute_script(
      'const style = getComputedStyle(document.documentElement);'
      'return arguments[0].map((i) => style.getPropertyValue(`--kind-${i}`).trim())', list(range(len(KINDS))))
  pixels = np.array(driver.execute_script(
      "const canvas = document.getElementById('overview');"
      "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]")).reshape(ROWS, 256, 4)
  for number in range(ROWS):
    for i, origin in enumerate(reader.packed(number).origins):
      red, green, blue, _ = pixels[number, i].tolist()
      assert f'#{red:02x}{green:02x}{blue:02x}' == colour_of[KINDS.index(origin.kind)]


def test_the_control_loop_goes_through_the_timesteps(driver, path, reader):
  pages_cases.open_page(driver, path)
  explained = reader.alone(3, 6)  # BabyAI has most kinds
  button = driver.find_element('id', 'next-timestep')
  for step in (1, 2):
    driver.execute_script('arguments[0].click()', button)
    assert driver.find_element('id', 'timestep').text.startswith(f'timestep {step} of ')
    wanted = [origin for origin in explained.origins if origin.timestep == step]
    labels = [label for _, label in tokens_of(driver, '.loop')]
    assert [label.split(': ')[1].startswith(origin.kind) for origin, label in zip(wanted, labels, strict=True)]
    assert f'discrete action {wanted[-1].value},' in labels[-1]


@pytest.mark.parametrize('law', ['observation', 'action'])
def test_the_calculator_bins_as_the_vocabulary_does(driver, path, law):
  pages_cases.open_page(driver, path)
  vocabulary = tokenizer().vocabulary
  rng = np.random.default_rng(0)
  values = [0.0, 1.0, -1.0, 1e-4, *rng.uniform(-1, 1, 20)]
  if law == 'observation':
    values += [2.5, -255.9, 256.0, 1000.0, -1e6, *rng.normal(0, 30, 20)]
  spec = ArraySpec('continuous')
  encode = vocabulary.encode_observation if law == 'observation' else vocabulary.encode_action
  decode = vocabulary.decode_observation if law == 'observation' else vocabulary.decode_action
  said = driver.execute_script("""
    document.querySelector(`input[name="law"][value="${arguments[0]}"]`).click();
    const field = document.getElementById('value');
    return arguments[1].map((value) => {
      field.value = String(value);
      field.dispatchEvent(new Event('input'));
      return document.getElementById('bin').textContent;
    });""", law, [float(value) for value in values])
  for value, text in zip(values, said, strict=True):
    token = encode(spec, np.float64(value)).item()
    place, number, back = re.search(r'bin (\d+) of 1024, id (\d+)\. It stands for (\S+);', text).groups()
    assert (int(place), int(number)) == (token - vocabulary.continuous_start, token), value
    assert float(back) == pytest.approx(decode(spec, np.array([token])).item(), rel=1e-3, abs=1e-7)
    assert ('beyond the last bin' in text) == (abs(value) > 256)


def test_the_calculator_by_keys_and_by_the_tables_buttons(driver, path):
  pages_cases.open_page(driver, path)

  def shown():
    return driver.find_element('id', 'bin').text

  before = shown()
  driver.execute_script("document.getElementById('slider').focus()")
  pages_cases.press(driver, 'ArrowRight')
  assert shown() != before
  assert shown() in driver.find_element('id', 'curve').get_attribute('aria-label')
  button = driver.find_elements('css selector', 'button[data-value]')[1]
  driver.execute_script('arguments[0].click()', button)
  row = [cell.text for cell in button.find_elements('xpath', './ancestor::tr/td')]
  assert f'bin {row[2]} of 1024, id {row[3]}.' in shown()
  driver.execute_script("const field = document.getElementById('value'); field.value = '';"
                        "field.dispatchEvent(new Event('input'))")
  assert 'Not a number' in shown()


def test_predictions_are_the_models(reader, model):
  explained = reader.packed(0)
  (found,) = predict(model, [explained.row], count=3)
  batch = jax.tree.map(lambda array: jnp.asarray(array)[None], explained.row)
  logits = np.asarray(model.logits(model(batch))[0], np.float64)
  chances = np.exp(logits - logits.max(axis=1, keepdims=True))
  chances /= chances.sum(axis=1, keepdims=True)
  best = np.argsort(-chances, axis=1)[:, :3]
  np.testing.assert_array_equal(found.likeliest[:, 0], best[:, 0])
  np.testing.assert_allclose(found.chances, np.take_along_axis(chances, best, axis=1), rtol=1e-4)
  predicts = explained.row.loss_weights > 0
  of_target = chances[np.flatnonzero(predicts), explained.row.targets[predicts]]
  np.testing.assert_allclose(found.target_chances[predicts], of_target, rtol=1e-4)


def test_without_a_model_it_says_so(driver, reader, tmp_path):
  (tmp_path / 'page.html').write_text(build_page(hostile_config(), reader, 2))
  pages_cases.open_page(driver, tmp_path / 'page.html')
  assert pages_cases.problems(driver) == []
  focus(driver, 0)
  assert 'No model: give --workdir' in driver.find_element('id', 'inspector').text
  assert not driver.find_elements('css selector', 'input[value="surprise"]')


@pytest.mark.parametrize('kept', [('python_docs',), ('digits', 'python_docs'), ('dm_control',)])
def test_mixtures_of_a_few_things(driver, tmp_path, kept):
  config = hostile_config()
  config.data.mixture = {name: config.data.mixture[name] for name in kept}
  sources = [source for source in hostile_sources() if source.name.split('/')[0] in kept]
  text = build_page(config, RowReader(config.data, sources, tokenizer(), 0), 2)
  (tmp_path / 'page.html').write_text(text)
  pages_cases.open_page(driver, tmp_path / 'page.html', pages_cases.PHONE)
  assert pages_cases.problems(driver) == []


@pytest.mark.parametrize(('rows', 'message'), [(0, '--rows=0: at least one'), (1, 'is missing; run `gato-jax prepare')])
def test_bad_input(tmp_path, rows, message):
  config = default_config()
  config.data.dir = str(tmp_path)
  with config.unlocked():
    config.data.mixture = {'digits': mixture_entry(1.0)}
  with pytest.raises(InputError, match=re.escape(message)):
    illustrate(config, str(tmp_path), rows=rows)
  (tmp_path / 'file').touch()
  with pytest.raises(InputError, match='file/page.html cannot be written .* give --out=FILE'):
    illustrate(config, str(tmp_path), str(tmp_path / 'file' / 'page.html'))
