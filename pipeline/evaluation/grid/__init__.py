"""Makes the cells of scores that a run file asks for."""
