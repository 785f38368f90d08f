"""The measurements themselves: whoever regresses is found, and every part can be measured. Nothing is timed here."""

import ast
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks import race as racing
from benchmarks.check import ALTERNATIONS, check
from benchmarks.parts import KEPT, PARTS
from benchmarks.race import Case, CaseFailedError, Outcome, Part, Target, measure, race
from benchmarks.report import dump, fill_page, load

ROOT = Path(__file__).parent.parent
PART = Part(
    "speed",
    "how fast",
    (Case("ours", "oneshots.ours", 10), Case("theirs", "oneshots.theirs", 20)),
    (Target("runs/s", "ours", "theirs", at_least=2, floor="theirs"),),
)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], list[str]]:
    """Let our figure be what is given, round by round, and theirs 100; return who was asked."""

    def given(ours: Sequence[float]) -> list[str]:
        asked: list[str] = []
        ahead = iter(ours)

        def measured(case: Case, _session: Path) -> dict[str, float]:
            asked.append(case.who)
            return {"runs/s": next(ahead) if case.who == "ours" else 100.0}

        monkeypatch.setattr(racing, "measure", measured)
        return asked

    return given


def _works() -> Iterator[tuple[str, Case]]:
    for part in (*PARTS, *KEPT):
        for case in part.cases:
            yield part.name, case


@pytest.mark.parametrize("work", sorted({case.work for _, case in _works()}))
def test_a_work_is_there(work: str) -> None:
    module, name = work.split(".")
    tree = ast.parse((ROOT / "benchmarks" / "work" / f"{module}.py").read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("part", [*PARTS, *KEPT], ids=lambda part: part.name)
def test_targets_speak_of_the_cases_of_their_part(part: Part) -> None:
    rows = [case.who for case in part.cases]
    assert len(set(rows)) == len(rows)
    for target in part.targets:
        assert {target.row, target.against or target.row, target.floor or target.row} <= set(rows)


def test_parts_have_names_of_their_own() -> None:
    for parts in (PARTS, KEPT):
        assert len({part.name for part in parts}) == len(parts)


def test_what_is_kept_is_a_ratio_and_never_an_absolute_figure() -> None:
    assert [target for part in KEPT for target in part.targets if target.against is None] == []
    assert all(part.targets for part in KEPT)


def test_contenders_take_turns_forwards_and_backwards(
    figures: Callable[[Sequence[float]], list[str]], tmp_path: Path
) -> None:
    asked = figures([1, 2, 3])
    list(race(PART, tmp_path, 3))
    assert asked == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_ratio_is_taken_within_a_round() -> None:
    rounds = [
        {"ours": {"runs/s": ours}, "theirs": {"runs/s": theirs}}
        for ours, theirs in ((6.0, 2.0), (60.0, 20.0), (5.0, 10.0))
    ]
    (verdict,) = Outcome(PART, rounds).verdicts()
    assert (verdict.value, verdict.held, verdict.of_floor) == (3.0, True, 3.0)


def test_a_regression_fails_after_a_few_alternations(
    figures: Callable[[Sequence[float]], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = figures([199] * ALTERNATIONS)
    (verdict,) = check([PART], tmp_path)
    assert not verdict.held
    assert asked.count("ours") == ALTERNATIONS
    assert "FAIL how fast: runs/s 1.99, must be >= 2 x theirs" in capsys.readouterr().out


def test_one_good_alternation_is_enough(figures: Callable[[Sequence[float]], list[str]], tmp_path: Path) -> None:
    asked = figures([50, 201])
    (verdict,) = check([PART], tmp_path)
    assert verdict.held
    assert asked.count("ours") == 2


def test_each_target_counts_at_its_own_best(figures: Callable[[Sequence[float]], list[str]], tmp_path: Path) -> None:
    figures([300, 90])
    part = Part(PART.name, PART.what, PART.cases, (*PART.targets, Target("runs/s", "ours", "theirs", at_most=1)))
    assert [verdict.held for verdict in check([part], tmp_path)] == [True, True]


def test_a_work_runs_in_an_os_process_of_its_own(tmp_path: Path) -> None:
    assert measure(Case("bgsched", "oneshots.bgsched_memory", 5), tmp_path)["runs/s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_work_that_fails_says_whose_it_is_and_why(tmp_path: Path) -> None:
    with pytest.raises(CaseFailedError, match=r"(?s)ours \(oneshots.ours, 10\) failed.*has no attribute 'ours'"):
        measure(PART.cases[0], tmp_path)


ON = {"cores": 2, "system": "Linux", "Python": "3.11", "SQLite": "3", "load": [0.1], "versions": {"bgsched": "1"}}
OUTCOME = Outcome(PART, [{"ours": {"runs/s": 123456.0}, "theirs": {"runs/s": 2.25}}])


def test_tables_go_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks: begin -->\nold\n<!-- benchmarks: end -->\nafter\n")
    for _ in range(2):
        fill_page(page, ON, [OUTCOME])
        text = page.read_text()
        assert text.startswith("before\n<!-- benchmarks: begin -->\n\nMeasured on 2 cores, Linux, Python 3.11")
        assert text.endswith("<!-- benchmarks: end -->\nafter\n")
        assert "old" not in text
        assert "| ours | 10 | 123,456 |\n| theirs | 20 | 2.25 |\n" in text
        assert "| speed | runs/s | ours | >= 2 x theirs | 54,869 | yes | 5486933 % |" in text


def test_a_page_without_marks_is_refused_and_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmarks: begin -->\nafter\n")
    with pytest.raises(ValueError, match="add them where the tables go"):
        fill_page(page, ON, [OUTCOME])
    assert page.read_text() == "before\n<!-- benchmarks: begin -->\nafter\n"


def test_figures_can_be_shown_again(tmp_path: Path) -> None:
    dump(tmp_path / "figures.json", ON, [OUTCOME])
    assert load(tmp_path / "figures.json", [PART]) == (ON, [OUTCOME])


def test_the_page_about_performance_can_be_filled(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs" / "explanation" / "performance.md").read_text())
    fill_page(page, ON, [OUTCOME])
    assert "| theirs | 20 | 2.25 |" in page.read_text()
