"""Front-ends: what makes the target of a mixture audible."""
