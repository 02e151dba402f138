from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.detectors.decide import Scored, Series, chance_of_poison, clean_share, cut, stands_out, tail, tails, widest_gap
from tocsin.stats.class_test import em_ratio, log_normal, project, simplified_ratio


def scores(rng: np.random.Generator, classes: int = 10, each: int = 1000):
    """Clean scores: a gamma-like right tail whose weight differs between classes, as on real data."""
    labels = np.repeat(np.arange(classes), each)
    scale = rng.uniform(0.25, 0.5, classes)
    s = rng.normal(-1, 0.6, len(labels)) + rng.exponential(scale[labels])
    return s, labels


def decide(s, labels, classes=10, ignore=None):
    return after([{"only": s}], labels, classes, ignore)


def after(rounds, labels, classes=10, ignore=None):
    names = tuple(f"c{k}" for k in range(classes))
    return tail(Scored(rounds, labels, names, np.zeros(len(labels), bool) if ignore is None else ignore))


def named(verdict):
    return [c.index for c in verdict.classes if c.suspect]


@pytest.mark.parametrize("count", [25, 100, 1000])
def test_few_and_many_poisons_in_one_class_are_found(count):
    rng = np.random.default_rng(count)
    s, labels = scores(rng)
    poison = np.flatnonzero(labels == 4)[:count]
    s[poison] = rng.normal(4.5, 0.8, count)
    verdict = decide(s, labels)
    assert [c.index for c in verdict.classes if c.suspect] == [4]
    assert verdict.flagged[poison].mean() > 0.95
    assert np.delete(verdict.flagged, poison).mean() < 0.005
    assert verdict.confidence > 0.9


def test_the_confidence_is_that_of_the_nearer_side():
    gaps = np.linspace(0, 30, 301)
    chance = np.array([chance_of_poison(float(g)) for g in gaps])
    assert (np.diff(chance[gaps >= 0.1]) >= -1e-9).all()
    assert chance_of_poison(0.4) < 0.02
    assert 0.1 < chance_of_poison(1.2) < 0.5  # a clean set's usual worst: still more likely clean
    assert chance_of_poison(1.8) > 0.5
    assert chance_of_poison(6.0) > 0.99


def test_clean_scores_are_left_alone():
    loud = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        verdict = decide(*scores(rng))
        loud += bool(verdict.flagged.any())
    assert loud <= 1


def test_heavy_tails_in_all_classes_are_not_a_finding():
    rng = np.random.default_rng(3)
    s, labels = scores(rng)
    natural = rng.random(len(s)) < 0.03
    s[natural] += rng.exponential(2.5, natural.sum())
    assert not decide(s, labels).flagged.any()


def two_rounds(rng, first=None, second=None):
    """Clean scores of two rounds, a plain and a sharpened view of each, and a group of 60 that stands out where its class is given."""
    rounds, labels = [], scores(rng)[1]
    for r, where in enumerate((first, second)):
        views = {f"{kind} {r}": scores(rng)[0] for kind in ("plain", "sharpened")}
        if where is not None:
            kind, target = where
            views[f"{kind} {r}"][np.flatnonzero(labels == target)[:60]] = rng.normal(5, 0.5, 60)
        rounds.append(views)
    return rounds, labels


def test_a_group_that_only_one_round_shows_is_not_a_finding():
    rng = np.random.default_rng(11)
    once = after(*two_rounds(rng, first=("sharpened", 2)))
    assert not once.flagged.any()
    assert max(once.evidence["gaps by view"].values()) > 1.8  # it is seen there, and does not count
    other = after(*two_rounds(rng, first=("sharpened", 2), second=("plain", 3)))
    assert named(other) == []
    twice = after(*two_rounds(rng, first=("sharpened", 2), second=("plain", 2)))
    assert named(twice) == [2]
    assert twice.flagged[2000:2060].mean() > 0.95


def test_targets_that_show_in_different_views_are_all_named():
    rng = np.random.default_rng(12)
    rounds, labels = two_rounds(rng, first=("sharpened", 2), second=("sharpened", 2))
    seven = np.flatnonzero(labels == 7)[:60]
    for r in (0, 1):
        rounds[r][f"plain {r}"][seven] = rng.normal(6, 0.5, 60)
    verdict = after(rounds, labels)
    assert named(verdict) == [2, 7]
    assert verdict.flagged[seven].mean() > 0.95
    assert verdict.flagged[np.flatnonzero(labels == 2)[:60]].mean() > 0.95
    assert verdict.flagged.mean() < 0.015
    views = {name: cut["view"].split()[0] for name, (cut,) in verdict.evidence["thresholds"].items()}
    assert views == {"c2": "sharpened", "c7": "plain"}
    assert verdict.view.startswith("plain")


def test_canaries_take_no_part():
    rng = np.random.default_rng(5)
    s, labels = scores(rng)
    ignore = np.zeros(len(s), bool)
    ignore[np.flatnonzero(labels == 2)[:60]] = True
    s[ignore] = 8
    assert not decide(s, labels, ignore=ignore).flagged.any()


def test_two_classes_do_not_break():
    rng = np.random.default_rng(6)
    s, labels = scores(rng, 2, 1000)
    assert not decide(s, labels, classes=2).flagged.any()
    s[:200] = rng.normal(7, 0.5, 200)
    verdict = decide(s, labels, classes=2)
    assert [c.index for c in verdict.classes if c.suspect] == [0]


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=40))
def test_widest_gap_names_classes_above_all_others(values):
    array = np.array(values)
    gap, above = widest_gap(array, 1.0)
    assert gap >= 0
    assert len(above) <= len(array) // 2
    if len(above):
        rest = np.delete(array, above)
        assert array[above].min() > rest.max()


def test_tails_are_the_mth_largest_and_small_classes_are_left_out():
    s, labels = np.arange(30.0), np.repeat([0, 1, 2], [15, 13, 2])
    got = tails(s, labels, 3, 3)
    assert got[0] == 12
    assert got[1] == 25
    assert np.isnan(got[2])


def test_cut_stops_where_the_poison_ends_if_nothing_lies_below_it():
    rng = np.random.default_rng(8)
    rest = rng.normal(size=9000)
    mine = np.concatenate([rng.normal(size=1000), rng.normal(8, 0.5, 50)])
    at = cut(mine, rest)
    assert at == mine[1000:].min()


def test_cut_goes_on_while_a_fifth_of_the_next_samples_is_poison():
    rng = np.random.default_rng(9)
    rest = rng.normal(size=90_000)
    clean, poison = rng.normal(size=10_000), rng.normal(3, 1, 150)
    at = cut(np.concatenate([clean, poison]), rest)
    share = lambda s: 150 * np.exp(-0.5 * (s - 3) ** 2) / (150 * np.exp(-0.5 * (s - 3) ** 2) + 10_000 * np.exp(-0.5 * s**2))  # noqa: E731
    assert share(at) == pytest.approx(0.2, abs=0.1)
    assert (poison >= at).mean() > 0.55


def test_cut_bounds_what_clean_samples_would_be_flagged():
    """A class that lies above the others altogether, natural as that may be, is not flagged as a whole."""
    rng = np.random.default_rng(10)
    mine = np.concatenate([rng.normal(0.5, 1, 1000), rng.normal(8, 0.5, 50)])
    rest = rng.normal(size=9000)
    at = cut(mine, rest)
    assert (rest >= at).mean() <= 0.01
    assert (mine[1000:] >= at).all()


def test_one_line_ratio_equals_the_two_sums():
    """Specification 2.5: the official two-cluster minus one-cluster likelihood, in plain numpy."""
    rng = np.random.default_rng(1)
    features, consistent = rng.normal(size=(300, 20)), rng.random(300) < 0.2
    features[consistent] += 1.0
    u = project(features)
    groups = {flag: (u[consistent == flag].mean(0), np.cov(u[consistent == flag].T) + 1e-3 * np.eye(2)) for flag in (True, False)}
    two = sum(log_normal(u[i : i + 1], *groups[bool(consistent[i])])[0] for i in range(300))
    one = sum(log_normal(u[i : i + 1], *groups[False])[0] for i in range(300))
    assert simplified_ratio(features, consistent, consistent) == pytest.approx(np.exp((two - one) / 300), rel=1e-9)


def test_log_normal_is_scipys():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(2)
    u, mean = rng.normal(size=(50, 2)), np.array([0.3, -1.0])
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    assert np.allclose(log_normal(u, mean, covariance), multivariate_normal(mean, covariance).logpdf(u))


@pytest.mark.parametrize("ratio", [simplified_ratio, em_ratio])
def test_ratios_tell_a_far_cluster_from_a_random_subset(ratio):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(1000, 8))
    picked = np.zeros(1000, bool)
    picked[:100] = True
    band = np.zeros(1000, bool)
    band[500:600] = True
    quiet = ratio(features, picked, band)
    features[picked] += 12  # far away
    assert ratio(features, picked, band) > 2
    assert quiet < 1.5


def test_a_group_of_one_is_no_cluster():
    features = np.random.default_rng(0).normal(size=(50, 4))
    lonely = np.zeros(50, bool)
    lonely[0] = True
    assert simplified_ratio(features, lonely, lonely) == 1.0


def test_what_two_rounds_in_texture_show_is_found_and_what_one_shows_is_not():
    rng = np.random.default_rng(3)
    quiet, labels = scores(rng)
    poison = np.flatnonzero(labels == 6)[:60]
    loud = [scores(rng)[0] for _ in range(3)]
    for s in loud:
        s[poison] = rng.normal(4.5, 0.8, len(poison))
    names, ignore = tuple(f"c{k}" for k in range(10)), np.zeros(len(labels), bool)
    plain = [{"margins 1": quiet}, {"margins 2": quiet}]

    def seen(*texture):
        return tail(Scored(plain, labels, names, ignore, further=[Series("texture", [{f"texture {r}": s} for r, s in enumerate(texture)])]))

    found = seen(quiet, *loud[:2])
    assert named(found) == [6]
    assert found.view in {"texture 1", "texture 2"}
    assert found.flagged[poison].mean() > 0.95
    once = seen(quiet, quiet, loud[0])
    assert named(once) == []
    # A round of either kind does not confirm one of the other.
    mixed = tail(Scored([{"a": loud[0]}, {"b": quiet}], labels, names, ignore, further=[Series("texture", [{"c": loud[1]}, {"d": quiet}])]))
    assert named(mixed) == []


def test_a_series_names_by_its_own_law_and_flags_by_each_of_its_scores():
    rng = np.random.default_rng(3)
    quiet, labels = scores(rng)
    poison = np.flatnonzero(labels == 6)[:60]
    faint, half, other = np.array(quiet), np.array(quiet), np.array(quiet)
    faint[poison] = rng.normal(1.7, 0.3, len(poison))
    half[poison[:30]] = rng.normal(6, 0.3, 30)
    other[poison[30:]] = rng.normal(6, 0.3, 30)
    names, ignore = tuple(f"c{k}" for k in range(10)), np.zeros(len(labels), bool)
    gap = stands_out(faint, labels, 10)[6]
    assert 0.5 < gap < 1.8

    def seen(null_scale, share):
        series = Series("labels", [{"shared 1": faint}, {"shared 2": faint}], [{"labels 1": half}, {"labels 2": other}], null_scale, share)
        return tail(Scored([{"a": quiet}, {"b": quiet}], labels, names, ignore, share=1 - share, further=[series]))

    at_limit = -gap / np.log(0.01 * 0.1)
    assert named(seen(1.05 * at_limit, 0.1)) == []
    found = seen(0.95 * at_limit, 0.1)
    assert named(found) == [6]
    assert found.view in {"labels 1", "labels 2"}
    assert found.flagged[poison].mean() > 0.95  # neither of the two knows more than half
    assert found.evidence["named by"] == {"c6": ["labels"]}
    np.testing.assert_array_equal(found.surest, found.flagged)
    # p is below alpha where a class is named, and only there; the gap needed is that of the rounds, in whose units the gap is told.
    assert 0.005 < found.classes[6].p_value < 0.01 < seen(1.05 * at_limit, 0.1).classes[6].p_value
    assert found.evidence["gap"] / found.evidence["gap needed"] == pytest.approx(1 / 0.95)
    assert found.evidence["gap needed"] == pytest.approx(-0.39 * np.log(0.01 * 0.9))


def test_the_surest_are_those_that_the_first_series_flags():
    rng = np.random.default_rng(3)
    quiet, labels = scores(rng)
    poison = np.flatnonzero(labels == 6)[:60]
    some, others = np.array(quiet), np.array(quiet)
    some[poison[:30]] = others[poison[30:]] = rng.normal(7, 0.3, 30)
    names, ignore = tuple(f"c{k}" for k in range(10)), np.zeros(len(labels), bool)
    series = Series("labels", [{"c": others}, {"d": others}])
    found = tail(Scored([{"a": some}, {"b": some}], labels, names, ignore, further=[series]))
    assert found.evidence["named by"] == {"c6": ["rounds", "labels"]}
    assert found.flagged[poison].all()
    assert found.surest[poison[:30]].all()
    assert found.surest[poison[30:]].mean() < 0.1
    other = Series("all labels", [{"c": others}, {"d": others}], alike=False)
    alone = tail(Scored([{"a": quiet}, {"b": quiet}], labels, names, ignore, further=[other]))
    assert alone.flagged[poison[30:]].all()
    assert not alone.surest.any()


def test_a_series_names_only_the_classes_it_is_about():
    rng = np.random.default_rng(3)
    quiet, labels = scores(rng)
    loud = np.array(quiet)
    for k in (2, 6):
        loud[np.flatnonzero(labels == k)[:60]] = rng.normal(7, 0.3, 60)
    names, ignore = tuple(f"c{k}" for k in range(10)), np.zeros(len(labels), bool)

    def seen(among):
        series = Series("many labels", [{"grain 1": loud}, {"grain 2": loud}], among=among)
        return tail(Scored([{"a": quiet}, {"b": quiet}], labels, names, ignore, further=[series]))

    assert named(seen(None)) == [2, 6]
    only = seen(np.arange(10) == 6)
    assert named(only) == [6]
    assert only.classes[2].p_value > 0.01


def test_where_the_class_has_a_reserve_it_says_what_is_expected_of_its_clean_samples():
    """A class whose clean samples score higher than others' do would be flagged whole by these; its own reserve knows better."""
    rng = np.random.default_rng(4)
    quiet, labels = scores(rng)
    mine = np.flatnonzero(labels == 6)
    view = np.array(quiet)
    view[mine] += 1.5
    view[mine[: len(mine) // 3]] = rng.normal(4.5, 0.5, len(mine) // 3)
    own = [rng.normal(1.5 * (k == 6), 1, 200).astype(np.float32) for k in range(10)]
    names, ignore = tuple(f"c{k}" for k in range(10)), np.zeros(len(labels), bool)

    def share_of_clean(reserve):
        series = Series(
            "many labels", [{"g 1": view}, {"g 2": view}], [{"m 1": view}], among=np.arange(10) == 6, reserve=reserve, false_share=0.2
        )
        flagged = tail(Scored([{"a": quiet}, {"b": quiet}], labels, names, ignore, further=[series])).flagged
        assert not flagged[labels != 6].any()
        return flagged[mine[len(mine) // 3 :]].mean(), flagged[mine[: len(mine) // 3]].mean()

    false, true = share_of_clean({"m 1": own})
    assert false < 0.03
    assert true > 0.9
    few = share_of_clean({"m 1": [scores[:40] for scores in own]})  # too few to go by: the other classes, and by them alone
    assert few == share_of_clean({})


def test_among_what_is_flagged_some_may_be_false():
    rng = np.random.default_rng(5)
    mine = np.concatenate([rng.normal(size=4000), rng.normal(2.5, 1, 2000)])
    own = rng.normal(size=2000)
    strict, loose = (mine >= cut(mine, own, among=among) for among in (0.0, 0.2))
    assert strict[4000:].mean() < 0.6 < 0.7 < loose[4000:].mean()
    assert loose[:4000].sum() < 0.25 * loose.sum()


def test_a_part_of_a_series_is_the_same_question_of_fewer_rows():
    whole = Series("labels", [{"a": np.arange(5)}], [{"b": np.arange(5, 10)}], 0.2, 0.1)
    some = whole.part(slice(1, 3))
    assert (some.question, some.null_scale, some.share) == ("labels", 0.2, 0.1)
    np.testing.assert_array_equal([some.rounds[0]["a"], some.flagging[0]["b"]], [[1, 2], [6, 7]])


@pytest.mark.parametrize(("poisoned", "found"), [(0.0, 0.0), (0.3, 0.7), (1.0, 0.95)])
def test_a_class_that_is_poison_through_and_through_is_flagged_nearly_whole(poisoned, found):
    rng = np.random.default_rng(2)
    rest = rng.normal(size=4000)
    poison = rng.random(400) < poisoned
    mine = rng.normal(size=400) + 3 * poison
    share = clean_share(mine, rest)
    assert (1 - poison.mean()) * 0.85 < share < 1 - poison.mean() + 0.15
    at = cut(mine, rest, share)
    assert (mine[poison] >= at).mean() >= found if poison.any() else share > 0.9
    assert (mine[~poison] >= at).sum() < 0.02 * 400
    if poisoned == 1:
        assert (mine >= cut(mine, rest)).mean() < 0.9  # what is taken for possible of a clean class stops it sooner
