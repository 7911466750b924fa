"""Published recipes: `get` and `names`."""

from trainwright.recipes.published import get, names, sources

__all__ = ["get", "names", "sources"]
