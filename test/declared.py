"""The systems that the paper's recipes declare, as rows of tables."""

from pathlib import Path

from espnet_tse_ser.systems.system import name_rows, read_systems

SYSTEMS_DIR = Path(__file__).parents[1] / "egs2/TEMPLATE/tse_ser1/conf/systems"
SYSTEMS = read_systems(SYSTEMS_DIR)
ROWS = name_rows((system, "default") for system in SYSTEMS.values())
