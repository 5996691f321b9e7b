"""Plans: FLOPs and collectives counted as often as loops turn, against XLA's own counts where it counts right."""

import math
import os
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.datasets.catalogue import requests
from data_pipelines.errors import InputError
from gato_jax import cli
from gato_jax.config import default_config, mixture_entry
from gato_jax.inspection import inspect
from gato_jax.mesh import make_abstract_mesh
from gato_jax.planning.estimate import estimate, keeps_scores
from gato_jax.planning.flops import count_flops
from gato_jax.planning.hlo import Collective, collectives, first_group, loop_turns, parse
from gato_jax.planning.plan import Needs, Plan, count_sources
from gato_jax.planning.report import describe, table
from gato_jax.planning.search import search
from gato_jax.planning.target import parse_target
from tests.gato_jax.processes import xla_flags
from tests.gato_jax.training_cases import tiny_run_config

ROOT = pathlib.Path(__file__).parents[2]


def layers(count, scanned, remat=False):
  """A stack of products and its gradient, as a loop or written out."""
  def layer(x, kernel):
    return jnp.tanh(x @ kernel), None

  body = jax.checkpoint(layer) if remat else layer

  def loss(kernels, x):
    return jax.lax.scan(body, x, kernels, unroll=1 if scanned else count)[0].sum()

  arguments = jax.ShapeDtypeStruct((count, 64, 64), jnp.float32), jax.ShapeDtypeStruct((32, 64), jnp.float32)
  return jax.jit(jax.grad(loss)).trace(*arguments)


@pytest.mark.parametrize('remat', [False, True])
def test_flops_of_a_scanned_stack_are_those_of_an_unrolled_one(remat):
  counted = count_flops(layers(6, True, remat).jaxpr, 1)
  assert counted == 6 * 2 * 32 * 64 * 64 * (3 + remat)
  if remat:
    return  # on a CPU, XLA finds out that the unrolled layers are computed twice, and does not
  unrolled = layers(6, False, remat).lower().compile().cost_analysis()['flops']
  scanned = layers(6, True, remat).lower().compile().cost_analysis()['flops']
  assert counted == pytest.approx(unrolled, rel=0.2)
  assert scanned < unrolled / 3  # what would be wrong with asking XLA about the loop


def test_flops_of_open_loops_convolutions_and_branches():
  def open_loop(n, x):
    return jax.lax.fori_loop(0, n, lambda _, y: y @ x, x)

  jaxpr = jax.make_jaxpr(open_loop)(3, jnp.zeros((8, 8)))
  assert count_flops(jaxpr, 5) == 5 * 2 * 8**3

  def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

  x, kernel = jnp.zeros((2, 16, 16, 3)), jnp.zeros((3, 3, 3, 64))
  assert count_flops(jax.make_jaxpr(convolve)(x, kernel), 1) == 2 * (2 * 16 * 16 * 64) * 27

  def choose(flag, x):
    return jax.lax.cond(flag, lambda y: y @ y @ y, lambda y: y @ y, x)

  assert count_flops(jax.make_jaxpr(choose)(True, jnp.zeros((8, 8))), 1) == 2 * 2 * 8**3


def test_flops_of_the_train_step_are_about_those_the_model_needs():
  config = tiny_run_config()
  config.model.update(width=128, heads=4, head_size=32, feed_forward=512, layers=6)
  config.data.update(sequence_length=256, patches_per_row=1)
  plan = estimate(config, parse_target('h100:8'), 0.25)
  assert 1 < plan.flops / plan.model_flops < 1.35  # attention over whole chunks, embeddings, patches
  config.model.remat = 'full'
  again = estimate(config, parse_target('h100:8'), 0.25)
  assert 1.2 < again.flops / plan.flops < 4 / 3


HLO = '''
HloModule jit_step

%body (p: (s32[], f32[8,64])) -> (s32[], f32[8,64]) {
  %p = (s32[], f32[8,64]{1,0}) parameter(0)
  %all-gather.1 = bf16[64,64]{1,0} all-gather(%w), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  ROOT %t = (s32[], f32[8,64]{1,0}) tuple(%i, %x)
}

%condition (p: (s32[], f32[8,64])) -> pred[] {
  %constant.7 = s32[] constant(24)
  ROOT %compare = pred[] compare(%i, %constant.7), direction=LT
}

%open_body (p: s32[]) -> s32[] {
  ROOT %all-reduce.9 = f32[16]{0} all-reduce(%g), replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
}

%open_condition (p: s32[]) -> pred[] {
  ROOT %compare.2 = pred[] compare(%i, %n), direction=LT
}

%async (p: f32[8]) -> f32[2] {
  ROOT %reduce-scatter.3 = f32[2]{0} reduce-scatter(%p), replica_groups=[2,4]<=[2,4]T(0,1), dimensions={0}
}

%all-reduce-scatter.1 (p: f32[16]) -> f32[4] {
  %all-reduce.5 = f32[16]{0} all-reduce(%p), channel_id=8, replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %slice = f32[4]{0} dynamic-slice(%all-reduce.5, %place), dynamic_slice_sizes={4}
}

%started (p: f32[8]) -> f32[32] {
  ROOT %all-gather.5 = f32[32]{0} all-gather(%p), channel_id=9, replica_groups=[2,4]<=[8], attributes={chain_id="0"}
}

%ended (p: f32[8]) -> f32[32] {
  ROOT %all-gather.6 = f32[32]{0} all-gather(%p), channel_id=9, replica_groups=[2,4]<=[8], attributes={chain_id="0"}
}

ENTRY %main (a: f32[8,64]) -> f32[8,64] {
  %while.1 = (s32[], f32[8,64]{1,0}) while(%t), condition=%condition, body=%body
  %while.2 = s32[] while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %while.3 = s32[] while(%t), condition=%open_condition, body=%open_body
  %all-gather-start.2 = (f32[4], f32[32]) all-gather-start(%q), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}
  %all-gather-done.2 = f32[32] all-gather-done(%all-gather-start.2)
  %a = ((f32[8]), f32[2]) async-start(%q), calls=%async
  %scattered = f32[4] fusion(%q), kind=kCustom, calls=%all-reduce-scatter.1
  %start = (f32[8], f32[32]) fusion(%q), kind=kCustom, calls=%started
  %done = f32[32] fusion(%start), kind=kCustom, calls=%ended
  %alone = f32[999]{0} all-reduce(%g), replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
  %send.1 = (f32[8,128]{1,0:T(8,128)}, u32[], token[]) send(%q, %t), channel_id=3, is_host_transfer=true, \
frontend_attributes={_xla_megascale_target="{1:3}x{0:7}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done.1 = token[] send-done(%send.1), channel_id=3, \
frontend_attributes={_xla_megascale_target="{1:3}x{0:7}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send.2 = (bf16[16]{0}, u32[], token[]) send(%q, %t), channel_id=4, \
frontend_attributes={_xla_megascale_target="{1,2}x{0:7}",_xla_megascale_transfer_type="ALL_GATHER"}
  %send.3 = (f32[16]{0}, u32[], token[]) send(%q, %t), channel_id=5, \
frontend_attributes={_xla_megascale_target={{200000->100001}},_xla_megascale_transfer_type="ONE_TO_ONE"}
  %permute = u8[100]{0} collective-permute(%q), source_target_pairs={{0,4},{4,0}}
}
'''


def test_collectives_by_kind_axis_turns_and_bytes():
  found = collectives(HLO, {'replica': 2, 'fsdp': 2, 'tensor': 2}, turns_of_open_loops=10)
  assert set(found) == {
      Collective('all-gather', ('fsdp', 'tensor'), 4, 28, 27 * 64 * 64 * 2 + 32 * 4),  # the chain once
      Collective('all-gather', ('replica', 'fsdp', 'tensor'), 8, 1, 128),
      Collective('all-reduce', ('replica',), 2, 10, 640),
      Collective('reduce-scatter', ('fsdp', 'tensor'), 4, 2, 32 + 16 * 4),
      Collective('collective-permute', ('replica',), 2, 1, 100),
      Collective('all-reduce', ('slices',), 3, 1, 8 * 128 * 4),
      Collective('all-gather', ('slices',), 2, 1, 2 * 16 * 2),
      Collective('collective-permute', ('slices',), 2, 1, 16 * 4),
  }
  assert found[0].bytes == max(collective.bytes for collective in found)
  computations, entry = parse(HLO)
  assert entry == 'main' and len(computations[entry]) == 15
  assert loop_turns('', computations['open_condition']) is None


def test_collectives_of_a_compiled_program_on_eight_devices():
  """A scan over FSDP layers: one gather of each layer's kernel, counted as often as the loop turns."""
  script = '''
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from gato_jax.planning.hlo import collectives
mesh = jax.make_mesh((1, 8, 1), ('replica', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3)
def f(kernels, x):
  def layer(x, kernel):
    y = x @ kernel
    return jax.lax.with_sharding_constraint(y, NamedSharding(mesh, P('fsdp', None))), None
  return jax.lax.scan(layer, x, kernels)[0]
kernels = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=NamedSharding(mesh, P(None, 'fsdp', None)))
x = jax.ShapeDtypeStruct((512, 64), jnp.float32, sharding=NamedSharding(mesh, P('fsdp', None)))
for found in collectives(jax.jit(f).lower(kernels, x).compile().as_text(), dict(mesh.shape), 1): print(tuple(found))
'''
  environment = os.environ | {
      'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': xla_flags(8)}
  done = subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True, check=True)
  [line] = done.stdout.splitlines()
  assert line == str(('all-gather', ('fsdp',), 8, 5.0, 5 * 64 * 64 * 4.0))


@pytest.mark.parametrize(('groups', 'group'), [
    ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", [0, 1, 2, 3]),
    ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", [0, 4]),
    ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", list(range(8))),
    ("mesh['axis_0'=8] {'axis_0':(2)2}", [0, 2]),
    ("mesh['axis_0'=8] {'axis_0':(1)2}", [0, 4]),
    ("mesh['axis_0'=1,'axis_1'=4,'axis_2'=2], device_ids=([2,4]T(1,0)) {'axis_1'}", [0, 1, 2, 3]),
    ("mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_1'}", [0, 4]),
    ('[2,4]<=[4,2]T(1,0)', [0, 2, 4, 6]),
    ('{{0,4},{1,5}}', [0, 4]),
    ('{}', list(range(8))),
])
def test_first_group(groups, group):
  assert first_group(f'%x), channel_id=1, replica_groups={groups}, dimensions={{0}}', 8) == group


def test_targets():
  target = parse_target('v5p:4x4x4', 2)
  assert (target.chip.name, target.shape, target.device_count) == ('v5p', (4, 4, 4), 128)
  assert parse_target('tpu7x:2x2x1').device_count == 8  # two devices a chip
  assert target.bandwidth(64) == 90e9 * 3 * 2
  assert target.bandwidth(16) == 90e9 * 2 * 2
  assert target.bandwidth(2) == 90e9  # two neighbours
  assert parse_target('v5e:4x4').bandwidth(16) == 45e9 * 2  # too short to be a ring
  assert parse_target('v5e:16x16').bandwidth(64) == 45e9 * 3  # a ring of 16, lines of 4
  assert parse_target('h100:64').bandwidth(8) == 450e9


@pytest.mark.parametrize(('topology', 'rings'), [
    ('v5e:16x16', (True, True)), ('v5e:8x16', (False, True)), ('v5p:4x4x8', (True,) * 3), ('v5p:2x4x4', (False,) * 3)])
def test_rings(topology, rings):
  assert parse_target(topology).rings == rings


@pytest.mark.parametrize(('topology', 'slices', 'words'), [
    ('v9:4', 1, "no chip 'v9'; there are v4, v5e"), ('v5e:4x4x4', 1, 'v5e takes 2 sizes, such as v5e:4x4'),
    ('v5p:axbxc', 1, 'v5p takes 3'), ('v5e:4x4', 0, 'at least one slice')])
def test_bad_targets(topology, slices, words):
  with pytest.raises(InputError, match=words):
    parse_target(topology, slices)


def made_up_plan(**changes):
  fields = dict(
      target=parse_target('v5e:4x4'), mesh={'replica': 1, 'fsdp': 16, 'tensor': 1}, remat='none', batch_size=16,
      needs=Needs(2**30, 2 * 2**30, 0.0), fits=True, flops=197e12, model_flops=98.5e12,
      collectives=[Collective('all-reduce', ('fsdp',), 16, 3.0, 9e9)], tokens=16_384, steps=86_400, compile_seconds=3.0)
  return Plan(**{**fields, **changes})


def test_roofline():
  plan = made_up_plan()
  assert plan.compute_seconds == 1
  assert plan.network_seconds == pytest.approx(2 * 15 / 16 * 9e9 / 90e9)
  assert plan.memory_seconds == pytest.approx(2 * 3 * 2**30 / 819e9)
  assert plan.bound_seconds == 1 and plan.mfu(1) == 0.5 and plan.days(1) == 1
  assert plan.serial_seconds == pytest.approx(1 + plan.network_seconds + plan.memory_seconds)
  text = describe(plan)
  assert 'fits: 3.00 of 16.0 GiB' in text and 'MFU 50%, 16,384 tokens/s' in text and '384 chip-hours' in text
  assert 'DOES NOT FIT' in describe(made_up_plan(fits=False)) and 'roofline' not in describe(made_up_plan(fits=False))
  assert 'ESTIMATED' in describe(made_up_plan(compile_seconds=0.0))
  lines = table([made_up_plan(fits=False), made_up_plan(), made_up_plan(tokens=99_999)]).splitlines()
  assert [line.split()[5] for line in lines[1:]] == ['yes', 'yes', 'no']


@pytest.mark.parametrize(('topology', 'mesh', 'kind', 'axes', 'size', 'seconds'), [
    # Two slices of v5e: 45 GB/s a link, 3.125 GB/s outside. 16 GB of each device; 8 of them are its share of a pair's.
    ('v5e:4x4', (4, 8, 1), 'all-reduce', ('replica',), 4, 16 / 45 + 8 / 3.125),
    ('v5e:4x4', (4, 8, 1), 'all-reduce', ('replica',), 2, 16 / 45),  # of one slice
    ('v5e:4x4', (2, 16, 1), 'all-reduce', ('replica',), 2, 16 / 3.125),
    ('v5e:4x4', (2, 16, 1), 'all-reduce', ('replica', 'fsdp'), 32, 2 * 15 / 90 + 1 / 3.125),
    ('v5e:4x4', (2, 16, 1), 'all-gather', ('fsdp',), 16, 15 / 90),
    ('v5e:4x4', (4, 8, 1), 'all-reduce', ('slices',), 2, 16 / 3.125),  # what a compiler has divided already
    # GPUs: 450 GB/s in a host of 8, 50 out of it.
    ('h100:32', (1, 64, 1), 'all-gather', ('fsdp',), 64, 14 / 450 + 7 / 8 * 2 / 50),
    ('h100:32', (1, 8, 8), 'all-gather', ('fsdp',), 8, 14 / 50),  # one of each host
    ('h100:32', (1, 32, 2), 'all-reduce', ('fsdp',), 32, 2 * 12 / 450 + 2 * 7 / 8 * 4 / 50),
    ('h100:32', (1, 8, 8), 'all-reduce', ('tensor',), 8, 2 * 14 / 450)])
def test_the_slow_network_is_charged_for_what_goes_through_it(topology, mesh, kind, axes, size, seconds):
  mesh = dict(zip(('replica', 'fsdp', 'tensor'), mesh, strict=True))
  plan = made_up_plan(target=parse_target(topology, 2), mesh=mesh)
  assert plan.seconds_of(Collective(kind, axes, size, 1.0, 16e9)) == pytest.approx(seconds)


def big_config(**training):
  config = default_config()
  config.model.update(layers=24, width=2048, heads=16, head_size=128, feed_forward=8192)
  config.training.update(training)
  return config


def test_sources_are_those_that_training_reads():
  config = default_config()
  with config.unlocked():
    config.data.mixture = {
        'metaworld': mixture_entry(1.0, tasks=('reach-v3', 'push-v3')), 'digits': mixture_entry(0.5),
        'babyai': mixture_entry(0.0, tasks=('GoToObj',)), 'easy_vqa': mixture_entry(0.0)}
  assert count_sources(config) == len(requests(config.data)) == 3


def test_state_of_the_estimate_is_exact():
  plan = estimate(big_config(), parse_target('h100:64'), 0.25)
  parameters = 1_071_000_000
  assert plan.needs.arguments == pytest.approx(12 * parameters / 64, rel=0.05)  # and small arrays on every device


@pytest.mark.parametrize(('topology', 'length', 'model', 'keeps'), [
    ('h100:8', 1024, {}, False), ('v5e:2x4', 1024, {}, False),  # cuDNN; splash
    ('h100:8', 1024, {'positions': 'transformer_xl'}, True), ('v5e:2x4', 1024, {'positions': 'transformer_xl'}, True),
    ('h100:8', 1024, {'dtype': 'float32'}, True), ('v5e:2x4', 1024, {'dtype': 'float32'}, False),
    ('h100:8', 1024, {'head_size': 256}, True), ('v5e:2x4', 1000, {}, True),
    ('h100:8', 1024, {'attention': 'chunked'}, True), ('v5e:2x4', 1024, {'attention': 'dot_product'}, True)])
def test_where_attention_keeps_its_scores(topology, length, model, keeps):
  config = big_config()
  config.model.update(model)
  config.data.sequence_length = length
  assert keeps_scores(config, parse_target(topology)) == keeps


def test_scores_that_are_kept_need_memory():
  config = big_config(batch_size=8)
  config.model.layers = 1
  temporaries = {}
  for name in ('auto', 'chunked'):
    config.model.attention = name
    temporaries[name] = estimate(config, parse_target('h100:8'), 0.25, flops=1.0).needs.temporaries
  pairs = 16 * 1024**2 / 2  # of one row
  assert temporaries['chunked'] - temporaries['auto'] == pytest.approx(2 * 12 * pairs)  # kept, and at work


@pytest.mark.parametrize(('topology', 'replica', 'kinds'), [
    ('v5e:16x16', 1, ['all-reduce', 'all-reduce']),  # shards of 8 rows; the whole slice
    ('v5e:16x16', 4, ['all-gather', 'reduce-scatter', 'all-reduce']),
    ('v5p:4x4x4', 1, ['all-gather', 'all-reduce']),
    ('h100:256', 1, ['all-gather', 'reduce-scatter'])])
def test_formulas_know_what_the_compiler_does_with_whole_slices(topology, replica, kinds):
  config = big_config()
  config.mesh.update(replica=replica, fsdp=-1)
  assert [collective.kind for collective in estimate(config, parse_target(topology), 0.25).collectives] == kinds


def test_search_puts_what_fits_and_is_fast_first():
  said = []
  config = big_config(batch_size=64)
  plans = search(config, parse_target('h100:8'), 0.25, 4, said.append)
  assert not any(plan.compile_seconds for plan in plans)
  fitting = [plan.has_room for plan in plans]
  assert fitting == sorted(fitting, reverse=True) and fitting[0]
  speeds = [plan.tokens / plan.serial_seconds for plan in plans if plan.has_room]
  assert speeds == sorted(speeds, reverse=True)
  assert len({(tuple(plan.mesh.values()), plan.remat, plan.batch_size) for plan in plans}) == len(plans) == 30
  config.training.batch_size = 1
  config.model.heads = 3
  with pytest.raises(InputError, match='no mesh of 8 devices'):
    search(config, parse_target('h100:8'), 0.25, 4, said.append)
  assert any('left out' in line for line in said)


def test_slices_are_of_devices_that_are_not_here():
  for settings in ({'slices': 2}, {'devices': 8, 'slices': 0}):
    with pytest.raises(InputError, match='with --devices only'):
      inspect(default_config(), **settings)


def test_inspect():
  config = tiny_run_config()
  config.mesh.update(fsdp=-1, tensor=2)
  text = inspect(config, devices=8)
  rows = {line.split()[0]: line for line in text.splitlines() if line.startswith(('parameters/', 'optimizer/'))}
  query = rows['parameters/blocks/attention/query']
  assert '(2, 32, 4, 8)' in query and "P(None, 'fsdp', 'tensor', None)" in query and query.split()[-1] == '1,024'
  assert sum(path.endswith('mu/blocks/attention/query') for path in rows) == 1
  total = sum(int(line.split()[-1].replace(',', '')) for line in rows.values())
  assert f'{total:,} bytes of state a device' in text and 'batch_size: 8' in text
  assert np.prod(list(make_abstract_mesh(config.mesh, 8).shape.values())) == 8
  config.mesh.tensor = 3
  with pytest.raises(InputError, match='does not fit 8 devices'):
    inspect(config, devices=8)


def test_command_line(capsys, monkeypatch):
  monkeypatch.setattr(os, 'environ', dict(os.environ))
  cli.main(['plan', '--topology=h100:8', '--config.model.layers=2'])
  assert 'ESTIMATED by formulas' in capsys.readouterr().out
  cli.main(['inspect', '--devices=4'])
  assert 'parameters on the mesh' in capsys.readouterr().out
  for arguments in (['--topology=v5x:4'], ['--topology=v5e:4x4', '--targets=0']):
    with pytest.raises(SystemExit):
      cli.main(['plan', *arguments])
    assert 'error' in capsys.readouterr().err


def has_tpu_compiler():
  try:
    import libtpu
  except ImportError:
    return False
  return isinstance(libtpu, types.ModuleType)


@pytest.mark.slow
@pytest.mark.skipif(not has_tpu_compiler(), reason="needs the TPU compiler: pip install 'gato_jax[tpu]'")
@pytest.mark.parametrize(('topology', 'slices', 'axes'), [
    ('v5e:2x4', 1, {('fsdp',), ('tensor',)}), ('v5p:2x2x2', 2, {('fsdp',), ('slices',), ('tensor',)})])
def test_the_step_compiles_for_tpus_that_are_not_here(topology, slices, axes):
  settings = ['--config.model.layers=12', '--config.model.width=256', '--config.model.heads=4',
              '--config.model.head_size=64', '--config.model.feed_forward=1024', '--config.model.remat=full',
              '--config.training.batch_size=64', '--config.mesh.tensor=2']
  done = subprocess.run(
      [sys.executable, '-m', 'gato_jax.cli', 'plan', f'--topology={topology}', f'--slices={slices}', *settings],
      env=os.environ | {'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  assert 'memory: fits' in done.stdout and 'compiled in' in done.stdout
  found = [line.split() for line in done.stdout.splitlines() if ' over ' in line]
  assert axes <= {(line[2],) for line in found}
  gathers = [float(line[line.index('GiB') - 1]) for line in found if line[0] == 'all-gather' and line[2] == 'fsdp']
  assert gathers and math.isfinite(sum(gathers))
