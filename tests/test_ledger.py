"""The ledger: published numbers beside ours, and no deviation without a reason."""

import numpy as np
import pytest

from revlearn import ledger, results
from revlearn.errors import DataError

PUBLISHED = """
chapter = "book/paper/x"
[[number]]
what = "loss"
source = "Figure 1"
published = "0.53"
tolerance = 0.005
ours = "loss"
[[number]]
what = "order"
source = "table"
published = true
ours = "order"
"""


@pytest.fixture
def stored(tmp_path):
    def store(loss=0.5341, order=True, published=PUBLISHED):
        numbers = {"loss": loss, "order": order}
        path = tmp_path / "x"
        results.save(path, settings={}, seconds=1.0, numbers=numbers, arrays={"a": np.ones(1)})
        (tmp_path / "x.toml").write_text(published)
        return path

    return store


def test_ours_stands_beside_theirs(stored):
    loss, order = ledger.compare(stored())
    assert (loss.published, loss.ours, loss.holds) == ("0.53", 0.5341, True)
    assert loss.deviation == pytest.approx(0.0041)
    assert (order.ours, order.holds) == (True, True)
    assert ledger.table([loss, order]).splitlines()[1:] == [
        "loss   Figure 1       0.53  0.534      0.005  holds",
        "order  table           yes    yes             holds",
    ]


@pytest.mark.parametrize("wrong", [{"loss": 0.5351}, {"loss": 0.5249}, {"order": False}])
def test_a_deviation_needs_a_reason(stored, wrong):
    with pytest.raises(ValueError, match="needs a reason"):
        ledger.compare(stored(**wrong))


def test_a_reason_excuses_one_number_and_is_printed_as_missed(stored):
    published = PUBLISHED.replace('ours = "loss"', 'ours = "loss"\nreason = "read off a plot"')
    loss, _ = ledger.compare(stored(loss=0.6, published=published))
    assert not loss.holds
    assert ledger.table([loss]).endswith("MISSED")
    with pytest.raises(ValueError, match="drop the reason"):
        ledger.compare(stored(published=published))


def test_a_number_that_is_not_stored_is_named(stored):
    with pytest.raises(KeyError, match=r"x\.toml asks for 'los', which x\.json"):
        ledger.compare(stored(published=PUBLISHED.replace('"loss"\n[[', '"los"\n[[')))


@pytest.mark.parametrize(
    "published",
    [
        "",
        "text",
        PUBLISHED[:40],
        "number = 3",
        "number = [3]",
        PUBLISHED.replace("ours", "our"),
        PUBLISHED.replace("source", "from"),
        PUBLISHED + "more = 1",
        PUBLISHED.replace('"0.53"', '"about a half"'),
        PUBLISHED.replace('"0.53"', "[0.53]"),
    ],
)
def test_what_was_published_is_read_or_named(stored, published):
    path = stored(published=published)
    with pytest.raises(DataError, match=r"x\.toml is damaged.*Write it as"):
        ledger.compare(path)
    path.with_name("x.toml").unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.toml"):
        ledger.compare(path)


@pytest.mark.parametrize(
    ("published", "ours", "expected"),
    [
        ("-1.143e-3", -0.00114312, "-1.1431e-03"),
        ("6.69", 6.6912, "6.691"),
        ("8", 8.0, "8"),
        ("630.417", 630.41699, "630.4170"),
    ],
)
def test_ours_has_one_digit_more(published, ours, expected):
    assert ledger.numbers(ledger.Row("", "", published, ours, 1.0))[1] == expected
