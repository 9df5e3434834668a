"""RULER and needle grids, with haystacks that are generated here."""
