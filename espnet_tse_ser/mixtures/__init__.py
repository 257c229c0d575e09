"""Sets of mixtures: the table that they follow from, drawing them, and their signals."""
