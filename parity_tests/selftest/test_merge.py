"""Merging: three shards are the unsharded run; other suites and overlaps are refused; what is missing is
named."""

import json
import signal
from pathlib import Path

import pytest

from parity_tests.__main__ import USAGE, main
from parity_tests.harness.journal import PARTIAL, key, read
from parity_tests.harness.options import RunOptions
from parity_tests.harness.run import Run
from parity_tests.selftest.sessions import apart, conformance, here, python
from parity_tests.selftest.test_guards import record
from parity_tests.selftest.test_ledger import entries

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Reports by hand.


def report(name, ids, finished=None, asked=("all",), records=None, **options):
    """The report of a run that planned the cases `ids` and finished the first of them, without a number
    all."""
    run = Run(RunOptions(report=str(name), **options))
    device = run.options.devices[0]
    run.begin([f"{case}-{device}" for case in ids], asked, True)
    for case in ids[:finished]:
        run.add(record(id=case, device=device, **(records or {})), "passed")
    run.write()


def three(*names, **more):
    """Three shards of two cases each."""
    for number in (1, 2, 3):
        if f"{number}.json" in names or not names:
            report(f"{number}.json", [f"case{number}a", f"case{number}b"], shard=(number, 3), **more)


def merged(capsys, *arguments):
    code = main(["merge", *map(str, arguments)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_shards_and_devices_merge_and_merge_again(capsys):
    three()
    report("cuda.json", ["case1a", "case2a"], devices=("cuda",))
    assert merged(capsys, "1.json", "2.json", "3.json", "-o", "cpu.json")[0] == 0
    code, out, _ = merged(capsys, "cpu.json", "cuda.json", "-o", "all.json")
    assert code == 0 and "cases 8: 8 passed" in out and "written to all.json" in out
    assert "merged: 2.json: shard 2/3 of all on cpu, 2 cases" in out
    assert "merged: cuda.json: all on cuda, 2 cases" in out
    content = json.loads(Path("all.json").read_text())
    assert content["suite"]["devices"] == ["cpu", "cuda"] and content["missing"] == []


def test_a_shard_that_is_not_there_is_named(capsys):
    three("1.json", "3.json")
    code, out, _ = merged(capsys, "1.json", "3.json", "-o", "all.json")
    assert code == 1 and "MISSING: shard 2/3 of all on cpu is not there" in out
    assert json.loads(Path("all.json").read_text())["missing"] == ["shard 2/3 of all on cpu is not there"]


def test_cases_without_a_result_are_named(capsys):
    three("1.json", "2.json")
    report("3.json", [f"case3{letter}" for letter in "abcdef"], finished=1, shard=(3, 3))
    code, out, _ = merged(capsys, "1.json", "2.json", "3.json")
    sentence = "3.json: shard 3/3 of all on cpu, 6 cases, 5 without a result: "
    assert code == 1 and f"MISSING: {sentence}case3b-cpu, case3c-cpu, case3d-cpu and 2 more" in out


def test_failed_cases_make_it_red(capsys):
    run = Run(RunOptions(report="1.json"))
    run.begin(["a-cpu"], ["all"], True)
    run.add(record(id="a"), "failed")
    run.write()
    assert merged(capsys, "1.json")[0] == 1


def test_stale_entries_are_judged_where_everything_is_there(capsys, monkeypatch):
    monkeypatch.setattr("parity_tests.harness.merge.ledger", lambda: entries("every = false"))
    ids = ["Conv2d-k1-float16", "Conv2d-k3-float16"]
    for number in (1, 2):
        report(f"{number}.json", ids[number - 1 : number], shard=(number, 2))
    sentence = "ERROR: ledger entry 'half-sums' matched cases, and none of them fails any more"
    code, out, _ = merged(capsys, "1.json", "2.json")
    assert code == 1 and sentence in out
    assert sentence not in merged(capsys, "1.json")[1], "a shard alone may lack the case that fails"
    report("2.json", ids[1:], shard=(2, 2), records={"deviations": {"half-sums": 3.0}})
    code, out, _ = merged(capsys, "1.json", "2.json")
    assert code == 0 and "known deviation half-sums: 1 cases, worst 3 x the bound" in out


def test_no_entry_is_stale_where_time_was_up_before_all_cases_ran(capsys, monkeypatch):
    monkeypatch.setattr("parity_tests.harness.merge.ledger", lambda: entries("every = false"))
    report("1.json", ["Conv2d-k1-float16"], shard=(1, 2))
    report("2.json", ["Conv2d-k3-float16"], shard=(2, 2), records={"not_run": "the 1 minutes were over"})
    code, out, _ = merged(capsys, "1.json", "2.json")
    assert code == 0 and "not run: 1 cases, the 1 minutes were over" in out


def test_layer_that_is_wholly_untested_is_judged_in_the_merged_report(capsys):
    untested = {"tier": "exact", "untested": ["output"]}
    for number in (1, 2):
        report(f"{number}.json", [f"case{number}"], shard=(number, 2), records=untested)
    code, out, _ = merged(capsys, "1.json", "2.json")
    assert code == 1 and "ERROR: AvgPool1d: all 2 exact cases are untested" in out


# Refusals: one sentence, exit code 4.


DIFFERENT = {
    "sweep is default in 1.json and quick in 2.json": {"sweep": "quick"},
    "seed is 0 in 1.json and 7 in 2.json": {"seed": 7},
    "precision is ieee in 1.json and tf32 in 2.json": {"precision": "tf32"},
    "dtype is None in 1.json and float16 in 2.json; cases is None": {"dtype": "float16", "cases": 3},
    "ignore known is False in 1.json and True in 2.json": {"ignore_known": True},
}


@pytest.mark.parametrize("sentence", DIFFERENT)
def test_other_suites_are_refused(capsys, sentence):
    report("1.json", ["a"], shard=(1, 2))
    report("2.json", ["b"], shard=(2, 2), **DIFFERENT[sentence])
    assert refusal(capsys, "1.json", "2.json").startswith(
        f"ERROR: reports of different suites cannot be merged: {sentence}"
    )


@pytest.mark.parametrize(("what", "value"), [("torch", "2.11.0+cpu"), ("code", "0123456789ab")])
def test_other_versions_are_refused(capsys, what, value):
    three("1.json", "2.json")
    content = json.loads(Path("2.json").read_text())
    content["suite"][what] = value
    Path("2.json").write_text(json.dumps(content))
    assert f"{value.partition('+')[0]} in 2.json" in refusal(capsys, "1.json", "2.json")


def test_other_candidates_are_refused_and_builds_for_devices_are_not(capsys, folder):
    text = "import torch\ndef avg_pool1d(*args):\n    return torch.nn.functional.avg_pool1d(*args)\n"
    for number, more in ((1, ""), (2, ""), (3, "# another\n")):
        (folder / "mine.py").write_text(text + more)
        report(f"{number}.json", [f"case{number}"], shard=(number, 3), candidate="mine.py")
    assert "candidate code is" in refusal(capsys, "1.json", "3.json")
    content = json.loads(Path("2.json").read_text())
    content["suite"].update(torch=f"{content['suite']['torch'].partition('+')[0]}+cu130", processor="another")
    Path("2.json").write_text(json.dumps(content))
    assert merged(capsys, "1.json", "2.json")[0] == 1


OVERLAPS = {
    "they hold shard 1/3 and shard 1/3 of the same cases": {"shard": (1, 3), "ids": ["other"]},
    "they hold shard 1/3 and shard 2/4 of the same cases": {"shard": (2, 4), "ids": ["other"]},
    "they hold shard 1/3 and all of it of the same cases": {"ids": ["other"]},
    "1 cases are in both, for example case1b-cpu": {"asked": ("test_conv",), "ids": ["case1b", "other"]},
}


@pytest.mark.parametrize("sentence", OVERLAPS)
def test_overlaps_are_refused(capsys, sentence):
    three("1.json")
    report("b.json", **OVERLAPS[sentence])
    assert f"1.json and b.json overlap: {sentence}" in refusal(capsys, "1.json", "b.json")


def refusal(capsys, *files):
    code, out, err = merged(capsys, *files, "-o", "all.json")
    assert code == USAGE and not out and len(err.splitlines()) == 1, (out, err)
    assert not Path("all.json").exists()
    return err


WRONG = {
    "merge": "the following arguments are required: REPORT.json; `python -m parity_tests merge --help`",
    "merge nowhere.json": "nowhere.json: there is no such file; give reports written with --report",
    "merge text.json": "text.json is no report that can be merged (JSONDecodeError",
    "merge list.json": "list.json is no report that can be merged (TypeError",
    "merge old.json": "old.json is no report that can be merged (KeyError: 'parts')",
    "merge .": ". cannot be read",
    "merge 1.json -o nowhere/all.json": "there is no folder",
    "merge 1.json -o .": "is a folder; give the name of a file in it",
    "merge 1.json -o 1.json": "-o 1.json is one of the reports to be merged; name another file",
    "unite 1.json": "invalid choice: 'unite'",
    "merge 1.json --fast": "unrecognized arguments: --fast",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_usage_error(capsys, folder, arguments):
    three("1.json")
    for name, text in {"text": "{", "list": "[]", "old": '{"cases": []}'}.items():
        (folder / f"{name}.json").write_text(text)
    assert main(arguments.split()) == USAGE
    err = capsys.readouterr().err
    assert err.startswith("ERROR: ") and WRONG[arguments] in err and len(err.splitlines()) == 1


def test_without_arguments_it_explains_itself(capsys):
    assert main([]) == USAGE
    assert "merge a.json b.json -o" in capsys.readouterr().err


def test_merging_needs_neither_torch_nor_numpy(folder):
    code = "import sys, parity_tests.__main__; print({'torch', 'numpy', 'pytest'} & set(sys.modules))"
    assert python(folder, "-c", code).stdout.strip() == "set()"


# Runs.


def seen(name):
    """What a report says, without times and without which machine ran what."""
    content = read(name)
    for row in content["layers"]:
        del row["seconds"]
    for case in content["cases"]:
        del case["seconds"], case["parts"]
    for what in ("parts", "seconds", "missing", "errors"):
        content.pop(what, None)
    lists = {"cases": key, "layers": str, "untested": str, "uninformative": str}
    return content | {what: sorted(content[what], key=order) for what, order in lists.items()}


def test_three_shards_merged_are_the_unsharded_run(pytester, capsys):
    few = (*conformance("pooling"), "--cases", "40", "-k", "AvgPool1d")
    assert here(pytester, *few, "--report", "one.json").ret == 0
    for number in (1, 2, 3):
        run = here(pytester, *few, "--shard", f"{number}/3", "--report", f"{number}.json")
        assert run.ret == 0 and f"shard {number}/3" in run.stdout.str()
    capsys.readouterr()
    code, out, _ = merged(capsys, "1.json", "2.json", "3.json", "-o", "all.json")
    assert code == 0 and "MISSING" not in out
    all_of_them, one = seen("all.json"), seen("one.json")
    assert {what for what in one if all_of_them[what] != one[what]} == set()
    assert one["totals"]["cases"] > 50 and one["totals"]["expected failure"] > 1


KILLED = """
import os, pathlib, signal, torch
original = torch.nn.functional.avg_pool1d
def avg_pool1d(input, *args):
    if input.dtype is torch.bfloat16 and pathlib.Path("kill").exists():
        pathlib.Path("kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return original(input, *args)
"""
POOLING = (*conformance("pooling"), "-k", "AvgPool1d and not rejects", "--candidate", "killed.py")


def test_a_shard_that_is_killed_loses_only_its_unfinished_cases(folder):
    (folder / "killed.py").write_text(KILLED)
    (folder / "2.json").write_text("an older report, which must not be taken for the new one")
    few = (*POOLING, "--cases", "30")
    assert apart(folder, *few, "--shard", "1/2", "--report", "1.json").returncode == 0
    (folder / "kill").touch()
    assert apart(folder, *few, "--shard", "2/2", "--report", "2.json").returncode == -signal.SIGKILL
    assert (folder / f"2.json{PARTIAL}").exists() and not (folder / "2.json").exists()
    with (folder / f"2.json{PARTIAL}").open("a") as file:
        file.write('{"id": "cut off in the mid')
    left = read("2.json")
    (part,) = left["parts"]
    assert len(left["cases"]) + len(part["unfinished"]) == part["planned"]
    assert left["cases"] and part["unfinished"]
    result = python(folder, "-m", "parity_tests", "merge", "1.json", "2.json", "-o", "all.json")
    assert result.returncode == 1, result.stderr
    which = f"2.json{PARTIAL}: shard 2/2 of conformance/test_pooling, -k AvgPool1d and not rejects on cpu, "
    sentence = f"{which}{part['planned']} cases, {len(part['unfinished'])} without a result: "
    assert f"MISSING: {sentence}" in result.stdout
    assert f"cases {len(left['cases']) + read('1.json')['totals']['cases']}: " in result.stdout


def test_a_worker_that_is_killed_loses_its_case_and_no_other(folder):
    pytest.importorskip("xdist")
    (folder / "killed.py").write_text(KILLED)
    (folder / "kill").touch()
    run = apart(folder, *POOLING, "--sweep", "quick", "-n", "2", "--report", "1.json")
    assert run.returncode == 1 and "crashed while running" in run.stdout
    content = read("1.json")
    (part,) = content["parts"]
    assert len(part["unfinished"]) == 1 and len(content["cases"]) == part["planned"] - 1 > 5
    result = python(folder, "-m", "parity_tests", "merge", "1.json")
    assert result.returncode == 1, result.stderr
    assert f"1 without a result: {part['unfinished'][0]}" in result.stdout


def test_an_empty_shard_is_no_error_of_the_run(pytester):
    """pytest itself says that no test ran."""
    few = (*conformance("linear"), "--sweep", "quick", "--dtype", "float64", "--layout", "expanded")
    run = here(pytester, *few, "--shard", "9999/9999", "--report", "1.json")
    assert run.ret == pytest.ExitCode.NO_TESTS_COLLECTED and "ERROR" not in run.stdout.str()
    assert read("1.json")["parts"][0]["planned"] == 0


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3"])
def test_a_wrong_shard_is_a_usage_error(pytester, shard):
    run = here(pytester, *conformance("pooling"), f"--shard={shard}")
    assert run.ret == USAGE
    run.stderr.fnmatch_lines([f"ERROR: --shard '{shard}' is not a shard; give i/n with i from 1 to n, *"])
