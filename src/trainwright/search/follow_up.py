"""A follow-up: where the best lies at an end of a range, the space that the search looks at next, in the same study.

A best point near to a boundary asks for a wider search: Google's tuning playbook, "Identifying bad search space boundaries". A
share of the budget is kept for that; where the best lies inside, the search goes on with it as if nothing had been kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainwright.errors import RecipeError
from trainwright.recipe import Recipe
from trainwright.search.audit import WIDENED, Edge, edges_of, is_of, widened
from trainwright.search.domains import Choice
from trainwright.search.recipe_search import RecipeSearch
from trainwright.search.space import Space, Values
from trainwright.search.space_file import parse_space, space_tree

# Shares of the budget at which a search looks where its best lies. Ours: two thirds as many trainings as before are left for the
# wider space, and the second look is for a best that lies further out than a range goes that is half as long again.
LOOKS = (0.6, 0.8)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A space that a study looked at. began: number of the first ask. edges: of the space before it, that led here; none for the
    first. space: all that was looked at so far. within: the part that proposals came from since."""

    began: int
    space: Space
    within: Space
    edges: tuple[Edge, ...] = ()

    def range_of(self, edge: Edge) -> str:
        """What is looked at since, of the range that an edge is of: `0.0001 to 0.03, log scale`."""
        return str(self.within.dimensions[self.within.names.index(edge.key)].domain)


def beyond(before: Looked, best: Values, search: RecipeSearch) -> Looked | None:
    """Where the search is to look next; None where the best lies inside of its space.

    A strategy that learns is shown all outcomes and so looks at all of the wider space. One that does not would look through the
    old box once more: it has the outer half of each range in question, and what is added.
    """
    space, recipe, history = before.space, search.recipe, search.search.history
    tried = len(history.trials)
    edges = tuple(
        edge for edge in edges_of(space, best, tried=tried) if _parsed(widened(space_tree(space), [edge]), recipe)
    )
    whole = _parsed(widened(space_tree(space), edges), recipe) if edges else None
    if whole is None:
        return None
    outer = None if search.search.searcher.learns else _parsed(_outer(space_tree(whole), space, edges), recipe)
    return Looked(began=len(history.asks), space=whole, within=outer or whole, edges=edges)


def told_of(looked: Looked) -> str:
    """`lies at the high end of optimizer.lr (1e-05 to 0.001). Follow-up, in the same budget: optimizer.lr 0.0001 to 0.03.`"""
    ends = " and ".join(
        f"at the {edge.end} end of {edge.key} ({edge.low:.3g} to {edge.high:.3g})" for edge in looked.edges
    )
    ranges = "; ".join(f"{edge.key} {looked.range_of(edge)}" for edge in looked.edges)
    return f"lies {ends}. Follow-up, in the same budget: {ranges}."


def _outer(tree: Mapping[str, Any], space: Space, edges: Sequence[Edge]) -> dict[str, Any]:
    """The plain data of a wider space without the inner part of the ranges that were widened."""
    by_key = dict(tree)
    for edge in edges:
        domain = space.dimensions[space.names.index(edge.key)].domain
        assert not isinstance(domain, Choice)
        middle = domain.value_at(1 - WIDENED if edge.end == "high" else WIDENED)
        ends = (middle, edge.wider[1]) if edge.end == "high" else (edge.wider[0], middle)
        key = edge.key.partition("[")[0]
        entries = by_key[key] if isinstance(by_key[key], list) else [by_key[key]]
        moved = [_between(entry, ends) if is_of(entry, edge) else entry for entry in entries]
        by_key[key] = moved if isinstance(by_key[key], list) else moved[0]
    return by_key


def _between(entry: Mapping[str, Any], ends: tuple[float, float]) -> dict[str, Any]:
    """A range with other ends; its prior goes where its centre does not lie between them."""
    prior = entry.get("prior")
    kept = {key: value for key, value in entry.items() if key != "prior"}
    if prior is not None and ends[0] <= prior["centre"] <= ends[1]:
        kept["prior"] = prior
    return kept | {"low": ends[0], "high": ends[1]}


def _parsed(tree: Mapping[str, Any], recipe: Recipe) -> Space | None:
    """The space; None where no recipe has it."""
    try:
        return parse_space(tree, recipe)
    except RecipeError:
        return None
