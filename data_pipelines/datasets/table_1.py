"""The paper's Table 1: the datasets Gato was trained on, as it prints them."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Family = Literal['3d worlds', 'games', 'grid worlds', 'continuous control', 'manipulation', 'text', 'pictures']


class Row(NamedTuple):
  """A row of the table.

  Attributes:
    family: rows of one family can stand in for each other (`family_weights`).
    weight: share of the positions, in percent.
    tasks: number of control tasks; 0 for vision and language.
    episodes: thousands of episodes; 0: not printed.
    tokens: billions of tokens; 0: not printed.
  """

  family: Family
  weight: float
  tasks: int = 0
  episodes: float = 0
  tokens: float = 0


ROWS: Mapping[str, Row] = {
    'DM Lab': Row('3d worlds', 9.35, 254, 16_400, 194),
    'ALE Atari': Row('games', 9.5, 51, 63.4, 1.26),
    'ALE Atari Extended': Row('games', 10.0, 28, 28.4, 0.565),
    'Sokoban': Row('grid worlds', 1.33, 1, 27.2, 0.298),
    'BabyAI': Row('grid worlds', 9.06, 46, 4_610, 22.8),
    'DM Control Suite': Row('continuous control', 4.62, 30, 395, 22.5),
    'DM Control Suite Pixels': Row('continuous control', 7.07, 28, 485, 35.5),
    'DM Control Suite Random Small': Row('continuous control', 3.04, 26, 10_600, 313),
    'DM Control Suite Random Large': Row('continuous control', 3.04, 26, 26_100, 791),
    'Meta-World': Row('manipulation', 8.96, 45, 94.6, 3.39),
    'Procgen': Row('games', 5.34, 16, 1_600, 4.46),
    'RGB Stacking simulator': Row('manipulation', 1.33, 1, 387, 24.4),
    'RGB Stacking real robot': Row('manipulation', 1.33, 1, 15.7, 0.98),
    'Modular RL': Row('continuous control', 8.23, 38, 843, 69.6),
    'DM Manipulation Playground': Row('manipulation', 1.68, 4, 286, 6.58),
    'Playroom': Row('3d worlds', 1.33, 1, 829, 118),
    'MassiveText': Row('text', 6.7),
    'M3W': Row('pictures', 4.0),
    'ALIGN': Row('pictures', 0.67),
    'MS-COCO Captions': Row('pictures', 0.67),
    'Conceptual Captions': Row('pictures', 0.67),
    'LTIP': Row('pictures', 0.67),
    'OKVQA': Row('pictures', 0.67),
    'VQAv2': Row('pictures', 0.67),
}


def family_weights(rows: Mapping[str, str]) -> dict[str, float]:
  """Table 1's weights carried over to datasets that cover it in part: every family present keeps its weight.

  Within a family, a row that nothing stands for leaves its weight to the others, in proportion; datasets of one row
  share it equally.

  Args:
    rows: dataset -> the row it stands for.

  Returns:
    dataset -> percent, relative to each other; families that are missing are left out.
  """
  present = set(rows.values())
  of_family: dict[str, float] = {}
  for row in ROWS.values():
    of_family[row.family] = of_family.get(row.family, 0) + row.weight
  covered = {family: sum(ROWS[row].weight for row in present if ROWS[row].family == family) for family in of_family}
  names = list(rows.values())
  return {
      dataset: of_family[ROWS[row].family] * ROWS[row].weight / covered[ROWS[row].family] / names.count(row)
      for dataset, row in rows.items()
  }
