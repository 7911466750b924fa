"""How often is a change adopted that changes nothing? Rounds of a study in which only the seed differs, from recorded runs.

A round: three arms against the control, Holm's correction over the arms, `diagnosis.comparison.adopted`. Every run of it is drawn
from a pool of trainings of one recipe (`aa_pool.py`), so each adoption is false. Pairs of arm and control are used again only
where the pool has no others. The rules that are tried:

    mcnemar      one control, no noise given: exact McNemar tests, a claim about these trainings and not about their recipes
    one-control  one control, and the noise floor between it and the baseline
    two-controls the baseline is a control, too
    confirmed    as that; the best arm that passes, or that nearly does where none passes, is trained once more, and so is the
                control, and has to pass with all of these trainings
    settled      as `confirmed`, but what is sure at first sight needs no second look
    lean        one control and no noise given; as `confirmed`, but the control is not trained once more: the arm's two trainings
                say what seed alone does, and the level is 0.01

Beside it: how much more the scores vary between seeds than their noise floor, and how often a 95 % interval holds the true gain
of nothing. A pool of 40 runs takes 3 to 15 minutes on one core. It is kept in --results and not trained again.

    python benchmarks/aa.py [--data FOLDER] [--results FOLDER] [--pools NAME …] [--kept] [--rounds 100] [--dry]

Exits with 0 if `confirmed`, `settled` and `lean` adopt in at most 5 % of the rounds of every pool; else with 4.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import numpy as np
import platformdirs

from aa_pool import DRY, POOLS, Pool, answers_of
from lr_cells import DRY as DIGITS
from lr_cells import Cell, folders
from trainwright.diagnosis.comparison import LEVEL, SETTLED, SURE, Comparison, adopted, compare, worth_a_second_look
from trainwright.diagnosis.noise import excess_variance, noise_floor
from trainwright.diagnosis.stats import wilson
from trainwright.seeding import stream

ARMS, CONTROLS = 3, 3  # of the controls the baseline is one, and one is trained only to confirm
GOAL, JUDGED = 0.05, ("confirmed", "settled", "lean")
TRIES = 40  # rounds drawn, of which the one that repeats the fewest pairs is taken


@dataclass(frozen=True)
class Rule:
    """controls: that the arms are compared with. noise: whether the noise floor is known. confirmed: with fresh seeds. lean: the
    control is not trained once more, and the arm's own two trainings say what seed alone does. settled: what is sure at first
    sight is adopted without."""

    controls: int
    noise: bool = True
    confirmed: bool = False
    lean: bool = False
    settled: bool = False


RULES = {
    "mcnemar": Rule(1, noise=False),
    "one-control": Rule(1),
    "two-controls": Rule(2),
    "confirmed": Rule(2, confirmed=True),
    "settled": Rule(2, confirmed=True, settled=True),
    "lean": Rule(1, noise=False, confirmed=True, lean=True),
}


def main() -> int:
    arguments = _arguments()
    pools = [DRY] if arguments.dry else [pool for pool in POOLS if not arguments.pools or pool.data in arguments.pools]
    cells = [Cell(pool.data, DIGITS.network, DIGITS.optimizer, 1) for pool in pools]
    rows = []
    with nullcontext(None) if arguments.kept else folders(arguments.data, cells) as root:
        for pool in pools:
            right_RN = answers_of(pool, arguments.results, root)
            if right_RN is not None:
                rows.append(_row(pool, right_RN.astype(np.float64), arguments.rounds))
                print(_line(rows[-1]), file=sys.stderr, flush=True)
    if not rows:
        raise SystemExit(f"aa.py: no pool is kept in {arguments.results}.")
    print(json.dumps({"benchmark": "aa", "rounds": arguments.rounds, "goal": GOAL, "pools": rows}))
    return 0 if arguments.dry or reached(rows) else 4


def reached(rows: list[dict[str, Any]]) -> bool:
    return all(row["rules"][rule]["share"] <= GOAL for row in rows for rule in JUDGED)


def _row(pool: Pool, right_RN: np.ndarray, rounds: int) -> dict[str, Any]:
    scores, floor = right_RN.mean(axis=1), noise_floor(*right_RN)
    between = excess_variance(scores.tolist(), floor)
    drawn = draw_rounds(len(right_RN), rounds)
    return {
        "pool": f"{pool.data}-{pool.size}",
        "runs": len(right_RN),
        "images": right_RN.shape[1],
        "score": float(scores.mean()),
        "noise_floor": floor,
        "deviation": between.deviation.value,
        "p_of_no_excess": between.p,
        "rules": {name: _share(right_RN, drawn, rule) for name, rule in RULES.items()},
    }


def _share(right_RN: np.ndarray, drawn: list[np.ndarray], rule: Rule) -> dict[str, Any]:
    """Rounds that adopt anything, and the share of first comparisons whose interval holds zero."""
    found = [round_of(right_RN[picked], rule) for picked in drawn]
    false = sum(bool(names) for names, _ in found)
    interval = wilson(false, len(drawn))
    held = [one.gain.low <= 0 <= one.gain.high for _, comparisons in found for one in comparisons]
    return {
        "adopted": false,
        "share": false / len(drawn),
        "interval": [interval.low, interval.high],
        "coverage": float(np.mean(held)),
    }


def round_of(right_RN: np.ndarray, rule: Rule) -> tuple[list[str], list[Comparison]]:
    """(arms that the rule adopts, all arms as they were compared first).

    right_RN: the answers of a round's runs: the control, the baseline, one to confirm; the arms; one more of each arm.
    """
    controls, arms = right_RN[:CONTROLS], right_RN[CONTROLS:].reshape(2, ARMS, -1)
    noise = noise_floor(controls[0], controls[1]) if not rule.lean else 0.0
    known = noise if rule.noise else None
    first = {str(arm): compare([arms[0, arm]], controls[: rule.controls], noise=known) for arm in range(ARMS)}
    level = SURE if rule.settled else LEVEL
    names = [name for name, one in adopted(first, noise=noise, level=level).items() if one.decision == "adopt"]
    if rule.confirmed and not (rule.settled and names):
        levels = worth_a_second_look(first, noise=noise)
        names = list(levels)[:1]
        level = levels[names[0]] if names else LEVEL
        if rule.lean and names:
            noise, level = noise_floor(*arms[:, int(names[0])]), SETTLED
            controls, known = controls[: rule.controls], noise
        again = {name: compare(arms[:, int(name)], controls, noise=known) for name in names}
        verdicts = adopted({**first, **again}, noise=noise, level=level)
        names = [name for name in names if verdicts[name].decision == "adopt"]
    return names, list(first.values())


def draw_rounds(runs: int, rounds: int) -> list[np.ndarray]:
    """[rounds] of [CONTROLS + 2 · ARMS]: which runs a round is made of, none twice in it, few pairs of arm and control again."""
    needed = CONTROLS + 2 * ARMS
    if runs < needed:
        raise SystemExit(f"aa.py: a round takes {needed} runs, the pool has {runs}.")
    used: set[frozenset[int]] = set()
    drawn = []
    for number in range(rounds):
        rng = stream(0, "aa", number)
        tried = [rng.permutation(runs)[:needed] for _ in range(TRIES)]
        drawn.append(min(tried, key=lambda picked: len(_pairs(picked) & used)))
        used |= _pairs(drawn[-1])
    return drawn


def _pairs(picked: np.ndarray) -> set[frozenset[int]]:
    """Of the arms, as first trained, with the control."""
    return {frozenset((int(picked[0]), int(arm))) for arm in picked[CONTROLS : CONTROLS + ARMS]}


def _line(row: dict[str, Any]) -> str:
    found = "  ".join(
        f"{name} {rule['share']:.0%} (cover {rule['coverage']:.0%})" for name, rule in row["rules"].items()
    )
    return (
        f"{row['pool']:<13} {row['runs']} runs, accuracy {row['score']:.3f}, between seeds ± {row['deviation']:.4f}, "
        f"noise floor {row['noise_floor']:.4f}; falsely adopted: {found}"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder of cats-dogs and flowers12; default: TRAINWRIGHT_DATA's archives"
    )
    kept = platformdirs.user_cache_path("trainwright") / "aa"
    parser.add_argument("--results", type=Path, default=kept, help="where pools are kept (default: %(default)s)")
    names = [pool.data for pool in POOLS]
    parser.add_argument("--pools", nargs="+", choices=names, metavar="NAME", help="only these")
    parser.add_argument("--kept", action="store_true", help="only pools that are complete")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--dry", action="store_true", help="a pool of a few steps: whether everything runs; exits with 0"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
