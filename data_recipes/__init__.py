"""Recipes as data: the published curriculum, its sources, and what turns them into packed rows of tokens."""
