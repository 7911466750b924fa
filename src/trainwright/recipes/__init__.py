"""Published recipes: `get` and `names`; `page` for what is said of one; `choose` for the one to start from."""

from trainwright.recipes.choice import Choice, Facts, choose
from trainwright.recipes.published import Page, get, names, page, sources

__all__ = ["Choice", "Facts", "Page", "choose", "get", "names", "page", "sources"]
