"""Where the evaluations of a run leave their reports: that of the last one, and one a step."""

import json
import logging
import pathlib
from typing import Any

LOGGER = logging.getLogger(__name__)
FOLDER = 'evaluation'  # of a workdir
REPORT = 'report.json'
_STEPS = 'steps'


def step_folder(folder: pathlib.Path, step: int) -> pathlib.Path:
  """Where below FOLDER the report and the results of a step are."""
  return folder / _STEPS / str(step)


def read_reports(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The reports of all evaluated steps in the order of the steps.

  Args:
    folder: FOLDER of a workdir.
  """
  reports = []
  for path in folder.glob(f'{_STEPS}/*/{REPORT}'):
    try:
      report = json.loads(path.read_text(encoding='utf-8'))
      reports.append((report['step'], report))
    except (OSError, ValueError, KeyError, TypeError) as error:
      LOGGER.warning('%s cannot be read (%r); left out', path, error)
  return [report for _, report in sorted(reports, key=lambda pair: pair[0])]
