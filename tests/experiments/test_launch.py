"""Launchers: one description, and what each of them makes of it."""

import os
import shlex
import stat
import subprocess
import sys
import time

from kubeflow_trainer_api import models
from packaging.requirements import Requirement
import pytest
import yaml

from data_pipelines.errors import InputError
from experiments.launch import __main__ as launch
from experiments.launch import gke, local, slurm, tpu_vm
from experiments.launch.job import Job, sweep


def job(**changes):
  return Job(**{
      'name': 'gato', 'config': 'experiments/configs/quickstart.py', 'workdir': '/runs/gato',
      'overrides': ('--config.training.steps=7',), 'topology': 'v5e:16x16', **changes})


@pytest.mark.parametrize(('topology', 'slices', 'replicas', 'pods', 'limits', 'labels'), [
    ('v5e:16x16', 1, 1, 64, {'google.com/tpu': 4}, ['tpu-v5-lite-podslice', '16x16']),
    ('v5p:4x4x4', 2, 2, 16, {'google.com/tpu': 4}, ['tpu-v5p-slice', '4x4x4']),
    ('v6e:1x1', 1, 1, 1, {'google.com/tpu': 1}, ['tpu-v6e-slice', '1x1']),
    ('h100:16', 2, 1, 4, {'nvidia.com/gpu': 8}, ['nvidia-h100-80gb']),
])
def test_job_set(topology, slices, replicas, pods, limits, labels):
  text = gke.text(job(topology=topology, slices=slices), 'image:1', 'disk')
  manifest = yaml.safe_load(text)
  assert schema(manifest) == manifest  # every field is one of the API's, of its type
  [workers] = manifest['spec']['replicatedJobs']
  spec = workers['template']['spec']
  pod = spec['template']['spec']
  [container] = pod['containers']
  assert (workers['replicas'], spec['parallelism'], spec['completions']) == (replicas, pods, pods)
  assert container['resources']['limits'] == limits
  mounted = {volume['name']: volume['mountPath'] for volume in container['volumeMounts']}
  assert {mounted[volume['name']]: list(volume)[1] for volume in pod['volumes']} == {
      '/runs': 'persistentVolumeClaim', '/dev/shm': 'emptyDir'}
  assert list(pod['nodeSelector'].values()) == labels
  assert 'gato-jax train --config=experiments/configs/quickstart.py' in container['command'][-1]
  assert subprocess.run(['bash', '-n', '-c', container['command'][-1]], check=False).returncode == 0
  assert manifest['spec']['failurePolicy']['maxRestarts'] == 10
  environment = {entry['name']: entry.get('value') for entry in container['env']}
  assert environment['JAX_COMPILATION_CACHE_DIR'] == '/runs/gato/compilations'
  if 'nvidia' in labels[0]:
    assert environment['JAX_COORDINATOR_ADDRESS'] == 'gato-workers-0-0.gato:8476'
    assert environment['JAX_NUM_PROCESSES'] == '4' and 'JAX_PROCESS_ID' in environment


def schema(manifest):
  """What Kubernetes' models know of it, the pod's fields included: they drop what is not theirs."""
  return models.JobsetV1alpha2JobSet.from_dict(manifest).to_dict()


def test_the_schema_notices_a_field_that_is_not_there():
  manifest = gke.manifest(job(), 'image:1', 'disk')
  manifest['spec']['replicatedJobs'][0]['template']['spec']['parallel'] = 3
  assert schema(manifest) != manifest
  manifest = gke.manifest(job(), 'image:1', 'disk')
  manifest['spec']['failurePolicy']['maxRestarts'] = 'many'
  with pytest.raises(ValueError, match='maxRestarts'):
    schema(manifest)


def test_xpk():
  words = shlex.split(gke.xpk_command(job(slices=2), 'image:1', 'cluster-1'))
  assert words[:3] == ['xpk', 'workload', 'create']
  assert {'--tpu-type=v5litepod-256', '--num-slices=2', '--cluster=cluster-1', '--max-restarts=10',
          '--env=JAX_COMPILATION_CACHE_DIR=/runs/gato/compilations', '--restart-on-exit-codes=1,75,124,134,137,139,143',
          } <= set(words)


def test_batch_file():
  text = slurm.batch_file(job(topology='h100:32'), hours=36.5, partition='long')
  lines = text.splitlines()
  for line in ('--nodes=4', '--ntasks-per-node=1', '--gpus-per-node=8', '--time=1-12:30:00', '--signal=TERM@120',
               '--requeue', '--partition=long', '--job-name=gato'):
    assert f'#SBATCH {line}' in lines
  assert lines[0] == '#!/bin/bash' and all(line.startswith('#SBATCH') for line in lines[1:11])
  assert 'export JAX_COMPILATION_CACHE_DIR=/runs/gato/compilations' in lines
  assert '/runs/gato' not in ''.join(line for line in lines if line.startswith('#SBATCH'))  # it may not be there yet


@pytest.mark.parametrize(('status', 'restarts', 'requeued'), [
    (0, 0, False), (2, 0, False), (75, 0, True), (124, 9, True), (75, 10, False)])
def test_batch_file_goes_back_into_the_queue(status, restarts, requeued, tmp_path):
  """The script itself, with SLURM's two commands replaced by ones that note what they were called with."""
  for name, code in (('srun', status), ('scontrol', 0)):
    path = tmp_path / name
    path.write_text(f'#!/bin/bash\necho {name} "$@" >> {tmp_path}/calls\nexit {code}\n')
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
  environment = {'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '77', 'SLURM_RESTART_COUNT': str(restarts)}
  text = slurm.batch_file(job(topology='h100:8', workdir=str(tmp_path / 'run')))
  assert subprocess.run(['bash', '-c', text], env=environment, check=False).returncode == status
  calls = (tmp_path / 'calls').read_text().splitlines()
  assert 'gato-jax train' in calls[0] and '--config.training.steps=7' in calls[0]
  assert calls[1:] == (['scontrol requeue 77'] if requeued else [])


def test_tpu_vm():
  commands = [shlex.split(line) for line in tpu_vm.commands(
      job(topology='v5p:4x4x4', slices=2), 'project-1', 'zone-a', '/wheels/gato_jax.whl', spot=True)]
  assert commands[0][:6] == ['gcloud', 'compute', 'tpus', 'queued-resources', 'create', 'gato']
  assert {'--accelerator-type=v5p-128', '--runtime-version=v2-alpha-tpuv5', '--node-count=2', '--node-prefix=gato',
          '--spot', '--project=project-1', '--zone=zone-a'} <= set(commands[0])
  [first, second] = [words for words in commands if any('systemd-run' in word for word in words)]
  assert any("'/wheels/gato_jax.whl[tpu]'" in word for words in commands for word in words)
  assert first[5] == 'gato-0' and second[5] == 'gato-1'
  service = first[-1].removeprefix('--command=')
  assert subprocess.run(['bash', '-n', '-c', service], check=False).returncode == 0
  assert '--property=RestartPreventExitStatus=2' in service and '--property=TimeoutStopSec=120' in service


@pytest.mark.parametrize(('package', 'name', 'url'), [
    ('gato_jax', 'gato_jax', None), ('git+https://host/gato_jax', 'gato_jax', 'git+https://host/gato_jax')])
def test_what_a_tpu_vm_installs(package, name, url):
  [install] = [line for line in tpu_vm.commands(job(), 'project-1', 'zone-a', package) if 'pip install' in line]
  requirement = Requirement(shlex.split(shlex.split(install)[-1].removeprefix('--command='))[-1])
  assert (requirement.name, requirement.extras, requirement.url) == (name, {'tpu'}, url)


def test_sweep():
  jobs = sweep(job(), ['config.seed=0,1', 'config.training.schedule.peak=1e-3,1e-4'])
  assert [one.name for one in jobs] == ['gato-0', 'gato-1', 'gato-2', 'gato-3']
  assert jobs[1].workdir == '/runs/gato/seed=0,peak=1e-4'
  assert jobs[1].overrides == ('--config.training.steps=7', '--config.seed=0', '--config.training.schedule.peak=1e-4')
  jobs = sweep(job(), [], ['config.seed=5 config.model.layers=2', '', 'config.seed=6'])
  assert [one.overrides[1:] for one in jobs] == [('--config.seed=5', '--config.model.layers=2'), ('--config.seed=6',)]


@pytest.mark.parametrize(('changes', 'words'), [
    ({'name': 'Gato_1'}, '--name=Gato_1'), ({'processes': 0}, '--processes'), ({'overrides': ('seed=3',)}, "'seed=3'")])
def test_bad_descriptions(changes, words):
  with pytest.raises(InputError, match=words):
    job(**changes)


@pytest.mark.parametrize(('topology', 'words'), [
    ('', 'needs --topology'), ('v9:4x4', "no chip 'v9'"), ('v5e:4x4x4', 'v5e takes 2 sizes'), ('h100:12', '12 GPUs'),
    ('h100:0', 'h100 takes 1 sizes')])
def test_bad_topologies(topology, words):
  with pytest.raises(InputError, match=words):
    slurm.batch_file(job(topology=topology))


def test_dry_run_of_everything(capsys):
  arguments = ['--config=a.py', '--workdir=/runs/a', '--dry_run', '--config.seed=3']
  for launcher, topology, words in (
      ('local', '', 'JAX_PROCESS_ID=\'1\''), ('slurm', 'h100:8', '#SBATCH'), ('gke', 'v5e:4x4', 'kind: JobSet'),
      ('tpu_vm', 'v5e:4x4', 'v5litepod-16')):
    assert launch.main([launcher, *arguments, f'--topology={topology}', '--processes=2']) == 0
    output = capsys.readouterr().out
    assert words in output and '--config.seed=3' in output
  grid = ['--config=a.py:0.1', *arguments[1:], '--grid=config.model.layers=1,2', '--topology=v5e:4x4']
  assert launch.main(['local', *grid, '--processes=2']) == 0
  output = capsys.readouterr().out
  assert output.count('--config=a.py:0.1 ') == 4 and output.count("='127.0.0.1:PORT'") == 4
  assert launch.main(['gke', *grid]) == 0
  assert [one['metadata']['name'] for one in yaml.safe_load_all(capsys.readouterr().out)] == ['gato-0', 'gato-1']
  assert launch.main(['slurm', *arguments]) == 2
  assert 'needs --topology' in capsys.readouterr().err


def run_local(tmp_path, script, **changes):
  """The launcher's own work, on processes that only say how they end."""
  launcher = local.Launcher(job(workdir=str(tmp_path), processes=2, **changes),
                            [sys.executable, '-c', script], quiet=True)
  return launcher, launcher.run()


COUNT = '''
import os, sys, time
index = os.environ['JAX_PROCESS_ID']
path = os.environ['JAX_COMPILATION_CACHE_DIR'] + index
tries = len(open(path).read()) if os.path.exists(path) else 0
open(path, 'a').write('x')
print('try', tries, flush=True)
'''


def test_local_starts_again_until_all_is_well(tmp_path):
  launcher, status = run_local(tmp_path, COUNT + "sys.exit(75 if tries < 2 and index == '1' else 0)")
  assert (status, launcher.attempts) == (0, 3)
  assert (tmp_path / 'logs' / 'attempt_2_process_1.log').read_text() == 'try 2\n'


@pytest.mark.parametrize(('code', 'status', 'attempts'), [(2, 2, 1), (75, 75, 3), (124, 124, 3)])
def test_local_gives_up(code, status, attempts, tmp_path):
  launcher, got = run_local(tmp_path, COUNT + f'sys.exit({code})', max_restarts=2)
  assert (got, launcher.attempts) == (status, attempts)


def test_local_that_is_told_to_stop_between_two_attempts_stops(tmp_path, monkeypatch):
  launcher = local.Launcher(job(workdir=str(tmp_path)), [sys.executable, '-c', 'import sys; sys.exit(75)'], quiet=True)
  monkeypatch.setattr(local.time, 'sleep', lambda seconds: seconds == local._PAUSE and launcher.stop())
  assert (launcher.run(), launcher.attempts) == (75, 1)


def test_local_ends_what_is_left(tmp_path, monkeypatch):
  monkeypatch.setattr(local, '_GRACE', 0.5)
  began = time.monotonic()
  _, status = run_local(tmp_path, COUNT + "time.sleep(100) if index == '0' else sys.exit(1)", max_restarts=0)
  assert status == 247 and time.monotonic() - began < 60  # killed: -9
