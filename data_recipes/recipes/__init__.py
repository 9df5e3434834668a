"""What is asked for: recipes, the sources and templates that they name, and the published curriculum."""
