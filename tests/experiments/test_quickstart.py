"""The quick start's parts are those of the program, speak of one folder, and go on as they were planned."""

import pytest
import yaml

from inbatch.errors import MissingError
from inbatch.experiments import quickstart
from inbatch.experiments.budget import Plan, Rates
from inbatch.recipes import find_config, read

CHOSEN = ["--data.batch_size=640", "--trainer.max_steps=4"]


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Record the verbs that are called, in a folder of their own, with a plan that takes no time."""
    calls = []

    def command(arguments):
        calls.append(arguments)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart.cli, "main", command)
    monkeypatch.setattr(quickstart, "make_plan", lambda budget, rest, start: Plan(640, 4, 100.0, 50.0, budget))
    return calls


def begun(folder, pairs, steps):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"data": {"batch_size": pairs}, "trainer": {"max_steps": steps}})
    )


def test_a_failed_training_is_its_exit_code(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "make_plan", lambda budget, rest, start: Plan(640, 4, 100.0, 50.0, budget))
    assert quickstart.main(["--no_such_option=1"]) == 2
    assert "no_such_option" in capsys.readouterr().err


def test_plans_trains_compares_and_searches(calls, capsys):
    assert quickstart.main() == 0
    assert [call[0] for call in calls] == ["fit", "search"]
    assert calls[0][5:] == CHOSEN
    assert calls[1].count("--query") == len(quickstart.QUERIES)
    out = capsys.readouterr().out
    assert "4 steps of 640 pairs, 639 in-batch negatives" in out
    assert "the budget is 6 min" in out
    assert "--logdir runs/quickstart" in out
    assert (
        "search runs/quickstart/export environment --split test --max-length 64 --query" in out
    )  # kept in the cache by the search above


@pytest.mark.parametrize(
    ("arguments", "name"), [(["--fresh"], "run-2"), (["--run_dir=other"], "other"), (["--fresh=false"], "run")]
)
def test_all_parts_speak_of_the_same_folder(arguments, name, calls, tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(quickstart, "RUN", "run")
    assert quickstart.main([*arguments, "--trainer.max_steps=1"]) == 0
    assert calls[0][3:] == ["--run_dir", name, *CHOSEN, "--trainer.max_steps=1"]
    assert calls[1][1] == f"{name}/export"
    assert f"--logdir {name}" in capsys.readouterr().out


def test_a_run_that_was_begun_goes_on_as_it_was_planned(calls, tmp_path, capsys):
    begun(tmp_path / "runs/quickstart", 1024, 5)
    assert quickstart.main([]) == 0
    assert calls[0][5:] == ["--data.batch_size=1024", "--trainer.max_steps=5"]
    assert "plan" not in capsys.readouterr().out
    assert quickstart.main(["--budget", "20"]) == 0
    assert calls[2][5:] == ["--data.batch_size=1024", "--trainer.max_steps=5"]
    assert "goes on as it was planned. --fresh plans anew" in capsys.readouterr().out
    assert quickstart.main(["--budget", "20", "--fresh"]) == 0
    assert calls[4][5:] == CHOSEN
    assert "the budget is 20 min" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-3", "nan", "1e9", "soon"])
def test_a_budget_that_is_none_is_refused(value, calls, tmp_path, capsys):
    assert quickstart.main([f"--budget={value}"]) == 2
    assert "--budget" in capsys.readouterr().err
    assert not calls
    assert not list(tmp_path.iterdir())


def test_the_plan_is_made_from_this_machine_and_this_corpus(minilm, monkeypatch):
    texts = {"anchor": ["Return the sum."] * 4, "positive": ["def add(a, b):\n    return a + b"] * 4}
    monkeypatch.setattr(quickstart, "corpus", lambda: texts)
    plan = quickstart.make_plan(360.0, ["--trainer.precision=32-true", "--trainer.accelerator=cpu"], start=0.0)
    assert plan.seconds > plan.spent > 0
    encoder, precision = quickstart.encoder_here(["--trainer.precision=bf16-mixed", "--trainer.accelerator=cpu"])
    assert precision == "bf16-mixed"
    two_words = ["--trainer.precision", "bf16-mixed", "--trainer.accelerator", "cpu", "--data.num_workers=2"]
    assert quickstart.encoder_here(two_words)[1] == "bf16-mixed"
    # [CLS] return the sum . [SEP] and the code's tokens, cut at 32 and 64
    counted = sum(len(encoder.tokenizer(texts[side][0])["input_ids"]) for side in texts)
    assert quickstart.mean_tokens(encoder, texts) == pytest.approx(1.05 * counted)
    long = {"anchor": ["word " * 100], "positive": ["word " * 100]}
    assert quickstart.mean_tokens(encoder, long) == pytest.approx(1.05 * 96)


def test_lengths_are_those_of_the_configuration():
    config = read(find_config(quickstart.CONFIG))
    assert config["data"]["max_length"] == quickstart.LENGTHS


def test_doctor_says_how_long_it_would_take(minilm, monkeypatch):
    monkeypatch.setattr(quickstart, "measure", lambda encoder, precision: Rates(1000.0, 4000.0))
    (found,) = quickstart.check_quickstart()
    assert found.state == "ok"
    # 360 s, less 30 of reading, 40 beside the network and 112.5 of encoding, at 1,000 tokens a second and 75 a pair
    assert "4 steps of 576 pairs, 575 in-batch negatives an anchor" in found.text
    assert found.text.startswith("about 5 min 55 s")


def test_doctor_is_silent_where_the_model_is_not_installed(monkeypatch):
    def missing(name):
        raise MissingError("not there")

    monkeypatch.setattr("inbatch.models.locate.locate", missing)
    assert not [*quickstart.check_quickstart()]
