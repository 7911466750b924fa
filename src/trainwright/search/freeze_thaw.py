"""`freeze-thaw`: many trainings begun and paused, and a model of their curves that says which of them to continue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from trainwright.plugins import strategies
from trainwright.search.curve_data import Curve, Features, Target, curve_scores, levels, lowest_comparable
from trainwright.search.curve_process import CurveProcess, Points, Scales, tuned, usual
from trainwright.search.drawing import Chance, unseen
from trainwright.search.history import History, Move, Trial
from trainwright.search.searching import Setting
from trainwright.search.space import Values
from trainwright.seeding import stream
import os
K = {k: float(v) for k, v in (p.split("=") for p in os.environ.get("FT", "").split(",") if p)}

STARTUP = int(K.get("startup", 10))
EXPLOIT = K.get("exploit", .25)
AROUND_BEST, BEST, WIDTHS = 0.5, 5, (0.03, 0.1, 0.25)
CANDIDATES = int(K.get("cand", 120))
MOST = 300
TUNED_ON = 120
TO_THE_END = 0.6
GAIN = (K.get("glo", -2.5), K.get("ghi", -0.3))


@strategies.register("freeze-thaw")
class FreezeThaw:
    learns = True

    def __init__(self, setting: Setting, *, startup: int = STARTUP) -> None:
        self._setting, self._startup = setting, startup
        self._space = setting.space
        self._features = Features(setting.space)
        self._chance = Chance(setting)
        self._end = setting.epochs or 1
        self._first = min(max(setting.least_epochs, round(self._end / 27)), self._end)
        self._grid = levels(self._first, self._end)
        self._scales = (-1, usual(self._features.groups_F))
        self._place = {}

    def propose(self, history: History) -> Move | None:
        n = len(history.asks)
        random = stream(self._setting.seed, "freeze-thaw", n)
        curves = self._curves(history)
        low = lowest_comparable(curves, self._grid)
        grid = self._grid[self._grid >= low]
        if history.own < self._startup or not any(max(c.scores) >= low for c in curves):
            if history.own < K.get("near0", 0.0) * self._startup:
                values = self._near(history, random)
            else:
                values = self._chance(history)
            return None if values is None else Move(values=values, epochs=int(grid[0]))
        return self._modelled(history, curves, grid, random)

    def _near(self, history, random):
        c = self._space.to_cube(self._centre(history))
        for _ in range(50):
            v = self._moved(c, random, width=.2)
            if not history.seen(v): return v
        return self._chance(history)

    def _centre(self, history):
        given = [t.values for t in history.trials.values() if t.given]
        return given[0] if given else self._space.completed({})

    def _moved(self, c, random, width):
        c = np.where(np.isnan(c), random.random(len(c)), c)
        return self._space.from_cube(np.clip(c + random.normal(0, 1, len(c)) * width * (random.random(len(c)) < .6), 0, 1))

    def _feat(self, trial):
        if trial.number not in self._place:
            self._place[trial.number] = self._features.of(trial.values)
        return self._place[trial.number]

    def _curves(self, history):
        out = []
        for t in history.trials.values():
            s = curve_scores(t.tolds, [a.epochs or self._end for a in t.asks])
            if s:
                out.append(Curve(number=t.number, place_F=self._feat(t), scores=s))
        return out

    def _points(self, curves, grid, most):
        g = grid.tolist()
        rows = []
        for c in curves:
            done = max(c.scores)
            for e in c.scores:
                if e == done and e >= g[0]:
                    rows.append((0, c, e))
                elif e in g:
                    rows.append((1, c, e))
        if len(rows) > most:
            inner = [r for r in rows if r[0]]; last = [r for r in rows if not r[0]]
            keep = max(0, most - len(last))
            r = stream(self._setting.seed, "thin", len(rows))
            inner = [inner[i] for i in sorted(r.permutation(len(inner))[:keep])]
            rows = inner + last
        P = Points(places_NF=np.array([c.place_F for _, c, _ in rows]), curves_N=np.array([c.number for _, c, _ in rows]), times_N=self._time(np.array([e for *_, e in rows])))
        return P, np.array([c.scores[e] for _, c, e in rows])

    def _time(self, e):
        return np.log(e) / max(math.log(self._end), 1e-9)

    def _modelled(self, history, curves, grid, random):
        P, scores = self._points(curves, grid, MOST)
        target = Target(scores=scores)
        y = target.of(scores)
        told = len(history.tolds)
        mile = int(1.25 ** int(math.log(max(told, 1)) / math.log(1.25)+1e-9))
        if self._scales[0] != mile:
            rows = np.sort(random.permutation(len(P))[:TUNED_ON])
            self._scales = (mile, tuned(P.at(rows), y[rows], self._features.groups_F))
        model = CurveProcess(P, y, self._scales[1])
        top = 1.0
        known = {c.number: c for c in curves}
        allf = np.array([c.place_F for c in curves]); ids = np.array([c.number for c in curves])
        mu, sd = model.predict(Points(places_NF=allf, curves_N=ids, times_N=np.full(len(ids), top)))
        score = mu - 0.5 * sd
        order = np.argsort(-score, kind="stable")
        live = [t for t in history.trials.values() if t.state == "finished" and not t.pending and t.epochs is not None and t.epochs < self._end and t.number in known]
        livenum = {t.number: t for t in live}
        def go(t):
            nxt = grid[grid > t.epochs][0]
            return Move(values=t.values, epochs=int(nxt), trial=t.number)
        best = int(ids[order[0]])
        if random.random() < EXPLOIT and best in livenum:
            return go(livenum[best])
        horizon = self._end if random.random() < TO_THE_END or len(grid) < 4 else int(random.choice(grid[2:]))
        cand = []
        n = CANDIDATES
        centre = self._space.to_cube(self._centre(history))
        leaders = [self._space.to_cube(history.trials[int(ids[i])].values) for i in order[:BEST]]
        for k in range(n):
            if k < n * .5:
                v = self._moved(leaders[random.integers(len(leaders))], random, width=random.choice(WIDTHS))
            elif k < n * .75:
                v = self._moved(centre, random, width=.2)
            else:
                v = self._space.sample(random)
            if not history.seen(v) and self._space.reason_against(v) is None:
                cand.append(v)
        parts_f = [known[t.number].place_F for t in live] + [self._features.of(v) for v in cand]
        ids2 = [t.number for t in live] + [-1 - i for i in range(len(cand))]
        times = [max(horizon, t.epochs + 1) for t in live] + [horizon] * len(cand)
        if not parts_f: return None
        Q = Points(places_NF=np.array(parts_f), curves_N=np.array(ids2), times_N=self._time(np.array(times)))
        mu, sd = model.predict(Q)
        thr = y.max() + 10 ** random.uniform(*GAIN)
        acq = log_ndtr((mu - thr) / sd)
        k = int(np.argmax(acq))
        if k < len(live):
            return go(live[k])
        return Move(values=cand[k - len(live)], epochs=int(grid[0]))
