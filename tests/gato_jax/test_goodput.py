"""Where the time goes: every second in one bucket, over restarts; watchdog; who owns a workdir."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

from data_pipelines.errors import InputError
from gato_jax.training import ownership
from gato_jax.training.goodput import BUCKETS, Goodput, last_sign, process_start, report, table
from gato_jax.training.ownership import FILE, Ownership
from gato_jax.training.watchdog import STUCK


def test_every_second_is_in_one_bucket():
  began = time.time()
  goodput = Goodput(began)
  for bucket in ('data', 'step', 'data', 'step', 'save'):
    goodput.enter(bucket)
    time.sleep(0.03)
  seconds = goodput.to_json()['seconds']
  assert sum(seconds.values()) == pytest.approx(time.time() - began, abs=0.02)
  assert seconds['data'] >= 0.06 and seconds['step'] >= 0.06 and seconds['save'] >= 0.03
  assert set(seconds) == set(BUCKETS)


def test_a_restart_counts_what_was_lost_and_how_long_nothing_ran():
  now = time.time()
  before = {'since': now - 1000, 'updated': now - 300}
  saved = {'seconds': {**dict.fromkeys(BUCKETS, 0.0), 'step': 500.0, 'lost': 7.0}, 'at': now - 340}
  goodput = Goodput(now - 20)
  goodput.go_on(saved, before)
  seconds = goodput.to_json()['seconds']
  assert seconds['step'] == pytest.approx(500)
  assert seconds['lost'] == pytest.approx(7 + 40, abs=1)
  assert seconds['down'] == pytest.approx(280, abs=1)
  assert seconds['start'] == pytest.approx(20, abs=1)
  first = Goodput(now - 20)  # killed before its first checkpoint
  first.go_on(None, before)
  assert first.seconds['lost'] == pytest.approx(700, abs=1)
  clean = Goodput(now - 20)  # saved, then stopped: the sign of life may be older than the save
  clean.go_on({**saved, 'at': now - 299}, before)
  assert clean.seconds['lost'] == 7.0
  fresh = Goodput(now - 20)
  fresh.go_on(None, None)
  assert fresh.seconds['lost'] == fresh.seconds['down'] == 0


def test_without_the_owners_record_what_is_known_counts(tmp_path):
  now = time.time()
  saved = {'seconds': {**dict.fromkeys(BUCKETS, 0.0), 'step': 500.0, 'lost': 7.0}, 'at': now - 340}
  goodput = Goodput(now - 20)
  goodput.go_on(saved, last_sign(str(tmp_path)))
  assert goodput.seconds['step'] == 500 and goodput.seconds['lost'] == 7 and goodput.seconds['down'] == 0
  assert goodput.seconds['unknown'] == pytest.approx(320, abs=1)
  (tmp_path / 'goodput.json').write_text(json.dumps({'seconds': {'step': 520.0, 'lost': 7.0}, 'at': now - 300}))
  goodput = Goodput(now - 20)
  goodput.go_on(saved, last_sign(str(tmp_path)))
  assert goodput.seconds['lost'] == pytest.approx(7 + 40, abs=1)
  assert goodput.seconds['down'] == pytest.approx(280, abs=1) and goodput.seconds['unknown'] == 0
  first = Goodput(now - 20)  # killed before its first checkpoint
  first.go_on(None, last_sign(str(tmp_path)))
  assert first.seconds['lost'] == pytest.approx(527, abs=1)


def test_report(tmp_path):
  (tmp_path / 'goodput.json').write_text(json.dumps({'seconds': {'start': 10.0, 'step': 30.0}, 'at': 0}))
  lines = report(str(tmp_path)).splitlines()
  assert '30.0 s   75.0%' in lines[1] and lines[-1].split() == ['goodput', '40.0', 's', '75.0%']
  assert (tmp_path / 'goodput.png').stat().st_size > 1000
  assert table({}).startswith('goodput')
  with pytest.raises(InputError, match='train into this workdir first'):
    report(str(tmp_path / 'nothing'))


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path):
  (tmp_path / 'goodput.json').mkdir()
  Goodput().write(str(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ['goodput.json']


def test_process_start_is_in_the_past():
  code = 'import time; from gato_jax.training.goodput import process_start; print(time.time() - process_start())'
  age = float(subprocess.run([sys.executable, '-c', code], capture_output=True, check=True).stdout)
  assert 0 <= age < 60
  assert process_start() < time.time()


def test_one_run_a_workdir(tmp_path):
  other = subprocess.Popen([sys.executable, '-c', textwrap.dedent(f'''
      import sys, time
      from gato_jax.training.ownership import Ownership
      Ownership({str(tmp_path)!r})
      print('owned', flush=True)
      time.sleep(100)
      ''')], stdout=subprocess.PIPE, text=True)
  assert other.stdout.readline() == 'owned\n'
  with pytest.raises(InputError, match=f'belongs to a run that is going on: process {other.pid}'):
    Ownership(str(tmp_path))
  other.kill()
  other.wait()
  mine = Ownership(str(tmp_path))  # nobody waits for the dead
  assert mine.before['pid'] == other.pid
  mine.close()
  after = Ownership(str(tmp_path))
  assert after.before['pid'] == 0 and after.before['since'] == mine.before['since']
  after.close()


def test_a_run_on_another_host_is_alive_as_long_as_it_says_so(tmp_path, monkeypatch):
  monkeypatch.setattr(ownership, 'REFRESH', 0.1)
  record = {'host': 'elsewhere', 'pid': 7, 'started': 3, 'since': 1.0, 'updated': 2.0}
  (tmp_path / FILE).write_text(json.dumps(record))
  Ownership(str(tmp_path)).close()
  (tmp_path / FILE).write_text(json.dumps(record))
  code = f'''
import json, time
for i in range(100):
  time.sleep(0.02)
  open({str(tmp_path / FILE)!r}, 'w').write(json.dumps({record!r} | dict(updated=i)))
'''
  writer = subprocess.Popen([sys.executable, '-c', code])
  monkeypatch.setattr(ownership, 'REFRESH', 10.0)
  with pytest.raises(InputError, match='process 7 on elsewhere'):
    Ownership(str(tmp_path))
  writer.kill()
  writer.wait()


def test_a_workdir_that_cannot_be_written(tmp_path):
  with pytest.raises(InputError, match='training.checkpoint_dir'):
    Ownership('gs://bucket/run')
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='file cannot be written'):
    Ownership(str(tmp_path / 'file'))


@pytest.mark.parametrize(('steps', 'code'), [(0, STUCK), (3, STUCK)])
def test_watchdog_ends_a_process_that_makes_no_progress(steps, code):
  script = f'''
import time
from gato_jax.training.watchdog import Watchdog
def hang_here():
  time.sleep(60)
watchdog = Watchdog(1.0, 0.5)
for _ in range({steps}):
  time.sleep(0.3)
  watchdog.progress()
hang_here()
'''
  ended = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=False)
  assert ended.returncode == code
  assert 'no step has ended for' in ended.stderr and 'hang_here' in ended.stderr


def test_watchdog_lets_progress_be():
  script = '''
import time
from gato_jax.training.watchdog import Watchdog
watchdog = Watchdog(1.0, 1.0)
for _ in range(8):
  time.sleep(0.2)
  watchdog.progress()
with watchdog.paused():  # an evaluation
  time.sleep(1.5)
watchdog.close()
time.sleep(1.5)
Watchdog(0, 0.1)
Watchdog(0.3, 0).progress()
time.sleep(0.5)
'''
  assert subprocess.run([sys.executable, '-c', script], env=os.environ, check=False).returncode == 0
