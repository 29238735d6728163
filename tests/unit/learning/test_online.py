# SPDX-License-Identifier: Apache-2.0
"""Days added to a state teach what their joined table teaches; the state survives its file."""

import errno
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import quorum
from quorum.decision import weights as weights_file
from quorum.files import locked
from quorum.learning import learn
from quorum.learning.online import (
    FORGOTTEN,
    OnlineError,
    begin,
    dump_state,
    load_state,
    relearn,
    state_path,
    update,
)
from quorum.learning.simulate import independent
from quorum.votes import Cell, build_table, write_votes

WHEN = datetime(2024, 5, 1, tzinfo=UTC)
MEMBERS = ["m0", "m1", "m2", "m3"]


def day(seed, cells=200, labelled=80, start=0, members=MEMBERS):
    rng = np.random.default_rng(seed)
    codes, truth = independent(rng, cells, np.linspace(0.9, 0.5, len(members)), 5)
    codes[codes == 5] = 0
    truth[truth == 5] = 0

    def name(code):
        return {-1: None, 0: "n/a"}.get(int(code), f"wërt {code}")

    return build_table(members, [
        Cell(f"p{start + i}", f"c{i % 2}", "", f"a{i % 3}", tuple(map(name, codes[i])),
             (name(truth[i]),) if i < labelled else ())
        for i in range(cells)
    ])  # fmt: skip


def joined(*days):
    return build_table(days[0].members, [cell for table in days for cell in table.cells])


DAYS = (day(1), day(2, start=200), day(3, start=400))


def with_scores(table, seed, share=0.8):
    """Members are surer of votes that most others share; some votes have no score."""
    rng = np.random.default_rng([7, seed])
    rows = []
    for cell in table.cells:
        alike = np.array([cell.values.count(value) for value in cell.values])
        scores = np.log(rng.beta(1.0 + 3.0 * alike, 2.0)).astype(np.float32).tolist()
        known = rng.random(len(scores)) < share
        rows.append(replace(cell, scores=tuple(
            score if have and value is not None else None
            for score, have, value in zip(scores, known, cell.values, strict=True)
        )))  # fmt: skip
    return build_table(table.members, rows)


SCORED_DAYS = tuple(with_scores(table, seed) for seed, table in enumerate(DAYS))
MIXED_DAYS = (DAYS[0], SCORED_DAYS[1], DAYS[2])


@pytest.mark.parametrize("days", [DAYS, SCORED_DAYS, MIXED_DAYS], ids=["no scores", "scores", "some scores"])
@pytest.mark.parametrize("method", ["majority", "iwmv", "em", "loglinear", "auto"])
def test_days_teach_what_the_joined_table_teaches(method, days):
    state = begin(days[0])
    for table in days[1:]:
        state = update(state, table)
    online, whole = relearn(state, method, created=WHEN), learn(joined(*days), method, created=WHEN)
    assert (online.default, online.attributes, online.groups) == (
        whole.default,
        whole.attributes,
        whole.groups,
    )
    assert online.settings == whole.settings
    for key in ("rows", "products", "gold_labels"):
        assert online.provenance[key] == whole.provenance[key]
    assert online.provenance["days"] == 3
    assert online.provenance["data_hash"] == state.content_hash
    assert online.provenance["labelled_tables"] == [d.data_hash for d in state.days if d.gold_labels]


def rows_of(hist):
    columns = (hist.groups, hist.right, hist.counts, hist.codes, hist.levels)
    return [*zip(*(column.tolist() for column in columns), strict=True)]


@pytest.mark.parametrize("days", [SCORED_DAYS, MIXED_DAYS], ids=["scores", "some scores"])
def test_the_state_of_scored_days_is_that_of_their_joined_table(days):
    state, whole = begin(days[0]), joined(*days).statistic()
    for table in days[1:]:
        state = update(state, table)
    assert rows_of(state.statistic.scored) == rows_of(whole.scored)
    assert rows_of(state.statistic.gold) == rows_of(whole.gold)
    assert len(whole.scored.counts) > 1.2 * len(whole.hist.unlabelled().counts)


def test_a_forgotten_cell_counts_as_a_part_of_one():
    state = update(update(begin(DAYS[0]), DAYS[1], forgetting=0.5), DAYS[2], forgetting=0.5)
    assert [d.factor for d in state.days] == [0.25, 0.5, 1.0]
    repeated = [DAYS[0]] + [DAYS[1]] * 2 + [DAYS[2]] * 4
    whole = relearn(begin(joined(*repeated)), "iwmv", created=WHEN)
    assert relearn(state, "iwmv", created=WHEN).default == whole.default
    assert state.statistic.hist.total == 200 * 1.75


def test_weights_follow_a_change_once_old_days_are_forgotten():
    changed = build_table(MEMBERS, [
        Cell(c.product + "x", c.category, "", c.attribute, c.values[::-1], c.gold) for c in day(4).cells
    ])  # fmt: skip
    kept, faded = (update(begin(day(5, cells=2000)), changed, factor) for factor in (1.0, 0.01))
    # Faded, they are fewer cells than it takes to test the members' agreement.
    settings = {"cautious": False}
    assert np.argmax(relearn(kept, "em", settings=settings).default.weights) == 0
    assert np.argmax(relearn(faded, "em", settings=settings).default.weights) == 3


def test_what_is_forgotten_leaves_the_state():
    rare = build_table(MEMBERS, [Cell("q", "", "", "rare", ("x", "y", "z", None))])
    state = update(begin(rare), DAYS[0], forgetting=FORGOTTEN / 2)
    assert state.statistic.hist.counts.min() == 1.0
    assert state.statistic.hist.total == 200
    for method in ("iwmv", "em", "loglinear"):
        assert relearn(state, method, created=WHEN).default == learn(DAYS[0], method, created=WHEN).default


@pytest.mark.parametrize("days", [DAYS, SCORED_DAYS, MIXED_DAYS], ids=["no scores", "scores", "some scores"])
def test_the_file_gives_the_state_back(tmp_path, days):
    state = update(begin(days[0]), days[1], forgetting=0.3)
    path = state_path(tmp_path / "weights.json")
    assert path.name == "weights.state.json"
    dump_state(state, path)
    loaded = load_state(path)
    assert loaded.content_hash == state.content_hash
    assert loaded.days == state.days
    further = [update(s, days[2]) for s in (state, loaded)]
    assert relearn(further[0], created=WHEN) == relearn(further[1], created=WHEN)
    assert path.read_text(encoding="utf-8").count("\n") > len(state.statistic.hist.counts)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["schema_version"] == (1 if days is DAYS else 2)
    assert ("scored_rows" in content) == (days is not DAYS)
    dump_state(loaded, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


STATE_BEFORE_SCORES = "sha256:3ef7c970fd856a6840d315e749b0bb38e9f5baeecc0f7eb0eceb9e537c6225df"


def test_a_state_without_scores_is_written_as_before(tmp_path):
    state = update(begin(DAYS[0]), DAYS[1], forgetting=0.3)
    assert state.content_hash == STATE_BEFORE_SCORES
    faded = update(begin(SCORED_DAYS[0]), DAYS[1], forgetting=FORGOTTEN / 2)
    assert faded.statistic.scored is None
    assert faded.statistic.gold.levels is None


@pytest.mark.parametrize("days", [DAYS, SCORED_DAYS, MIXED_DAYS], ids=["no scores", "scores", "some scores"])
def test_gold_given_later_takes_the_place_of_the_votes_without_it(tmp_path, days):
    blank = days[0].with_gold(np.zeros(len(days[0]), bool))
    state = update(update(begin(blank), days[1], forgetting=0.3), days[2], forgetting=0.7)
    dump_state(state, tmp_path / "state.json")
    late = update(load_state(tmp_path / "state.json"), days[0], forgetting=0.5)
    soon = update(update(begin(days[0]), days[1], forgetting=0.3), days[2], forgetting=0.7)
    assert late.days == soon.days
    assert late.statistic.products == soon.statistic.products
    for name in ("hist", "gold", "scored") if days is not DAYS else ("hist", "gold"):
        one, other = getattr(late.statistic, name), getattr(soon.statistic, name)
        assert (one.levels is None) == (days is DAYS or name == "hist")
        assert one.levels is None or np.array_equal(one.levels, other.levels)
        assert np.array_equal(one.codes, other.codes)
        assert np.array_equal(one.right, other.right)
        assert one.counts == pytest.approx(other.counts)
    with pytest.raises(OnlineError, match="with the gold of 80"):
        update(late, blank)


def test_what_does_not_fit_is_refused():
    state = begin(DAYS[0])
    with pytest.raises(OnlineError, match="when members change"):
        update(state, day(9, members=MEMBERS[:3]))
    with pytest.raises(OnlineError, match="added before, as table 1 of 2"):
        update(update(state, DAYS[1]), DAYS[0])
    for forgetting in (0.0, 1.5, float("nan")):
        with pytest.raises(OnlineError, match="forgetting is"):
            update(state, DAYS[1], forgetting)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=0), "schema_version is 0"),
        (lambda c: c.pop("days"), "missing required field `days`"),
        (lambda c: c.update(more=1), "unknown field `more`"),
        (lambda c: c["rows"][0].pop(), "every row needs 7 numbers"),
        (lambda c: c["gold_rows"][0].pop(), "every row needs 8 numbers"),
        (lambda c: c["gold_rows"][0].__setitem__(2, 99.0), "edited or damaged"),
        (lambda c: c["rows"][0].__setitem__(2, 99.0), "edited or damaged"),
        (lambda c: c["rows"][0].__setitem__(2, -1.0), "out of range"),
        (lambda c: c["rows"][0].__setitem__(0, 77), "out of range"),
        (lambda c: c["rows"][0].__setitem__(3, "x"), r"Expected `float`, got `str` - at `\$.rows\[0\]\[3\]`"),
        (lambda c: c["rows"][0].__setitem__(3, 1000), "out of range"),
        (lambda c: c["groups"].append(["alone"]), r"length 2, got 1 - at `\$.groups"),
        (lambda c: c["days"][0].pop("cells"), r"required field `cells` - at `\$.days\[0\]`"),
        (lambda c: c.update(days=3), r"got `int` - at `\$.days`"),
        (lambda c: c.update(members=[]), r"length >= 1 - at `\$.members`"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    path = tmp_path / "s.json"
    dump_state(begin(DAYS[0]), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(OnlineError, match=message) as caught:
        load_state(path)
    assert str(path) in str(caught.value)
    assert "begin a new state" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["scored_rows"][0].pop(), "scored_rows: every row needs 11 numbers"),
        (lambda c: c["gold_rows"][0].pop(), "gold_rows: every row needs 12 numbers"),
        (lambda c: c["scored_rows"][0].__setitem__(-1, 9), "scored_rows: a row holds a number out of range"),
        (lambda c: c["scored_rows"][0].__setitem__(2, 99.0), "are not the cells of rows"),
        (
            lambda c: c["scored_rows"][0].__setitem__(2, 1e308),
            "scored_rows: a row holds a number out of range",
        ),
        (lambda c: c["scored_rows"][0].__setitem__(1, 1), "are not the cells of rows"),
        (lambda c: c["scored_rows"].clear(), "are not the cells of rows"),
        (lambda c: c["gold_rows"][0].__setitem__(2, 99.0), "edited or damaged"),
        (lambda c: c.pop("scored_rows"), "2 exactly with scored_rows"),
        (lambda c: c.update(schema_version=1), "2 exactly with scored_rows"),
    ],
)
def test_damaged_scores_are_refused(tmp_path, change, message):
    path = tmp_path / "s.json"
    dump_state(begin(SCORED_DAYS[0]), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(OnlineError, match=message):
        load_state(path)


def test_a_file_of_a_newer_quorum_is_to_be_kept(tmp_path):
    path = tmp_path / "s.json"
    dump_state(begin(DAYS[0]), path)
    newer = path.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 4')
    path.write_text(newer, encoding="utf-8")
    with pytest.raises(OnlineError, match=r"this quorum reads 1 to 3; upgrade quorum$"):
        load_state(path)


def test_no_file_half_a_file_or_one_that_no_reader_can_hold(tmp_path):
    with pytest.raises(OnlineError, match="No such file"):
        load_state(tmp_path / "absent.json")
    path = tmp_path / "s.json"
    dump_state(begin(DAYS[0]), path)
    text = path.read_text(encoding="utf-8")
    nested, long = "[" * 100_000, text.replace('"products": 200', '"products": ' + "2" * 5000)
    for damaged, message in ((text[:500], "not JSON"), (nested, "too deeply"), (long, "4300 digits")):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(OnlineError, match=message) as caught:
            load_state(path)
        assert str(path) in str(caught.value)


def test_the_state_of_earlier_weights_goes_when_weights_without_one_take_their_place(tmp_path):
    votes, out = tmp_path / "votes.jsonl", tmp_path / "weights.json"
    write_votes(DAYS[0], votes)
    quorum.learn(votes, out=out)
    assert load_state(state_path(out)).days == begin(DAYS[0]).days
    quorum.learn(votes, options=quorum.LearnOptions(gold_labels=60), out=out)
    assert not state_path(out).exists()


@pytest.fixture
def two_days(tmp_path):
    """Weights of a first day with their state, and the file of a second day."""
    votes, out = [tmp_path / f"day{number}.jsonl" for number in range(2)], tmp_path / "weights.json"
    for table, path in zip(DAYS, votes, strict=False):
        write_votes(table, path)
    quorum.learn(votes[0], out=out)
    return votes[1], out


def updated(votes, out):
    return quorum.learn(votes, options=quorum.LearnOptions(update=out), out=out)


@pytest.mark.parametrize("part", ["weights.json", "weights.state.json"])
def test_an_update_that_cannot_write_leaves_both_files(two_days, monkeypatch, part):
    votes, out = two_days
    before = out.read_bytes(), state_path(out).read_bytes()
    write = Path.write_text

    def full(path, text, **more):
        if path.name.startswith(f".{part}."):
            write(path, text[:99], **more)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text, **more)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        updated(votes, out)
    assert (out.read_bytes(), state_path(out).read_bytes()) == before
    assert not list(out.parent.glob(".*"))


def test_an_update_killed_between_its_files_is_finished_by_the_next(two_days):
    votes, out = two_days
    first = out.read_bytes()
    wanted = updated(votes, out).weights
    state = state_path(out).read_bytes()
    out.write_bytes(first)
    report = updated(votes, out)
    assert report.weights.content_hash == wanted.content_hash == weights_file.load(out).content_hash
    assert state_path(out).read_bytes() == state
    assert any(
        "an earlier update ended before it wrote the weights; they count once" in r for r in report.remarks
    )
    assert report.drift is None
    with pytest.raises(OnlineError, match="were added before, as table 2 of 2"):
        updated(votes, out)


def test_two_updates_at_once_are_one_and_a_message(two_days):
    votes, out = two_days
    before = out.read_bytes()
    with locked(out), pytest.raises(BlockingIOError, match=r"another process: .*weights\.json"):
        updated(votes, out)
    assert out.read_bytes() == before
    updated(votes, out)


def test_scores_that_come_later_take_the_place_of_the_votes_without_them():
    without = DAYS[0].with_gold(np.zeros(len(DAYS[0]), np.bool_))
    scored = SCORED_DAYS[0].with_gold(np.zeros(len(DAYS[0]), np.bool_))
    again = update(begin(without), scored)
    assert len(again.days) == 1
    assert again.content_hash == begin(scored).content_hash
    both = update(begin(without), SCORED_DAYS[0])
    assert both.content_hash == begin(SCORED_DAYS[0]).content_hash


def test_the_same_votes_with_other_scores_or_without_them_are_refused():
    scored = SCORED_DAYS[0].with_gold(np.zeros(len(DAYS[0]), np.bool_))
    state = begin(scored)
    others = with_scores(DAYS[0], 99).with_gold(np.zeros(len(DAYS[0]), np.bool_))
    for table in (scored.without_scores(), others):
        with pytest.raises(OnlineError, match="added before, as table 1 of 1, with other scores"):
            update(state, table)


def test_messages_about_hostile_states_are_short_and_printable(tmp_path):
    path = tmp_path / "s.json"
    dump_state(begin(DAYS[0]), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    for change in (
        {"x" * 9_999: 1},
        {"content_hash": "x" * 9_999},
        {"\ud800": 1},
        {"schema_version": 10**4_000},
    ):
        path.write_text(json.dumps(content | change), encoding="utf-8")
        with pytest.raises(OnlineError) as caught:
            load_state(path)
        assert len(str(caught.value).removeprefix(str(path)).encode("utf-8")) < 500
