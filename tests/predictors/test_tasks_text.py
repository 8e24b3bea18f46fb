"""Text and parallel text: the standard library's own documentation, and numbers spelled out in words as translation."""

from __future__ import annotations

import inspect
import statistics

import numpy as np
import pytest
import torch

from archsmith import spaces
from archsmith.errors import ConfigError, TaskError
from archsmith.predictors.evaluation import measure_accuracy
from archsmith.predictors.supernet.scoring import SupernetScorer
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks import catalog
from archsmith.predictors.tasks.task import IGNORED, Samples
from archsmith.predictors.training import StandaloneSettings, train_standalone

UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

SETTINGS = SupernetSettings(steps=4, batch_size=8, calibration_batches=1, calibration_batch_size=8, scoring_samples=32)


def spelled(number: int) -> str:
    """A number below 1000 in words."""
    if number < 10:
        return UNITS[number]
    if number < 20:
        return TEENS[number - 10]
    if number < 100:
        return " ".join([TENS[number // 10 - 2], *([UNITS[number % 10]] if number % 10 else [])])
    rest = [spelled(number % 100)] if number % 100 else []
    return " ".join([UNITS[number // 100], "hundred", *rest])


@pytest.fixture(scope="module")
def documentation(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "statistics.txt"
    members = [statistics, *(getattr(statistics, name) for name in statistics.__all__)]
    file.write_text("\n\n".join(inspect.getdoc(member) or "" for member in members), encoding="utf-8")
    return file


@pytest.fixture
def numbers(tmp_path):
    drawn = np.random.default_rng(0).permutation(1000)[:200]
    (tmp_path / "train.digits").write_text("".join(" ".join(str(number)) + "\n" for number in drawn))
    (tmp_path / "train.words").write_text("".join(spelled(int(number)) + "\n" for number in drawn))
    return tmp_path


def pairs(folder, **options):
    given = {"source": "digits", "target": "words", "source_length": 5, "target_length": 6} | options
    return catalog.get("parallel_text", path=str(folder), **given)


def decoded(task, row, vocabulary):
    return [vocabulary.tokens[number] for number in row.tolist()]


def test_text_windows_join_to_the_text_of_the_split(documentation):
    task = catalog.get("text", path=str(documentation), length=16)
    whole = documentation.read_text()
    train = "".join(decoded(task, task.split("train").inputs.flatten(), task.vocabulary))
    assert whole.startswith(train)
    test = "".join(decoded(task, task.test_split().inputs.flatten(), task.vocabulary))
    assert test.replace("<unknown>", "?")[:4] == whole[round(0.9 * len(whole)) :][:4]


def test_text_labels_are_the_next_tokens(documentation):
    samples = catalog.get("text", path=str(documentation), length=16).split("valid")
    assert samples.inputs.shape == samples.labels.shape
    assert torch.equal(samples.inputs[:, 1:], samples.labels[:, :-1])
    assert torch.equal(samples.inputs[1:, 0], samples.labels[:-1, -1])


@pytest.mark.parametrize("level", ["byte", "character", "word"])
def test_text_batch_is_a_function_of_seed_and_step_and_a_piece_of_the_text(documentation, level):
    task, other = (catalog.get("text", path=str(documentation), length=12, level=level) for _ in range(2))
    task.batch(0, 8, seed=1)
    first, again = task.batch(5, 8, seed=1), other.batch(5, 8, seed=1)
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, task.batch(5, 8, seed=2).inputs)
    text = documentation.read_text().encode() if level == "byte" else documentation.read_text()
    for row in first.inputs:
        piece = bytes(row.tolist()) if level == "byte" else "".join(decoded(task, row, task.vocabulary))
        assert piece in text


def test_text_epochs_cut_at_different_places(documentation):
    task = catalog.get("text", path=str(documentation), length=16)
    epoch = task._windows(task._split("train"))
    first, second = (task.batch(step, epoch, seed=0).inputs for step in range(2))
    assert len({tuple(row) for row in first.tolist()} & {tuple(row) for row in second.tolist()}) < epoch // 10


def test_text_vocabulary_keeps_the_most_frequent_of_the_training_text(documentation):
    task = catalog.get("text", path=str(documentation), vocabulary=6)
    train = documentation.read_text()[: round(0.8 * len(documentation.read_text()))]
    frequent = sorted(set(train), key=lambda token: (-train.count(token), token))[:5]
    assert task.vocabulary.tokens == ("<unknown>", *frequent)
    assert task.classes == 6


def test_text_named_split_files_are_used(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"wiki.{name}.tokens").write_text(f"the {name} text, again and again the {name} text")
    task = catalog.get("text", path=str(tmp_path), length=4, level="word")
    assert "valid" not in task.vocabulary.tokens
    assert decoded(task, task.split("valid").inputs[0], task.vocabulary)[:3] == ["the", " ", "<unknown>"]


def test_text_wrong_encoding_is_named_with_its_place(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"na" + "ï".encode("latin-1") + b"ve" * 400)
    with pytest.raises(TaskError, match=r"latin\.txt': byte 2 is no UTF-8"):
        catalog.get("text", path=str(tmp_path / "latin.txt")).split("train")


def test_text_too_short_or_empty_or_missing_is_named(tmp_path):
    (tmp_path / "short.txt").write_text("short")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(TaskError, match=r"short\.txt'.*has 4 tokens"):
        catalog.get("text", path=str(tmp_path / "short.txt")).split("train")
    with pytest.raises(TaskError, match=r"empty\.txt' is empty"):
        catalog.get("text", path=str(tmp_path))
    with pytest.raises(TaskError, match="gone"):
        catalog.get("text", path=str(tmp_path / "gone"))


@pytest.mark.parametrize(("option", "value"), [("level", "letter"), ("length", 0), ("vocabulary", 1)])
def test_text_bad_option_is_named(documentation, option, value):
    with pytest.raises(ConfigError, match=rf"task\.options\.{option}"):
        catalog.get("text", path=str(documentation), **{option: value})


def test_parallel_text_pairs_stay_together(numbers):
    task = pairs(numbers)
    source, target = task.vocabularies
    for split in (task.split("train"), task.split("valid"), task.test_split()):
        for row in range(0, len(split), 7):
            digits = [token for token in decoded(task, split.inputs[row], source) if token not in ("<pad>", "<end>")]
            known = split.labels[row][split.labels[row] != IGNORED]
            words = decoded(task, known, target)
            assert words[-1] == "<end>"
            assert " ".join(words[:-1]) == spelled(int("".join(digits)))
            assert decoded(task, split.extra[0][row][: len(words)], target) == ["<begin>", *words[:-1]]


def test_parallel_text_cuts_splits_from_train_without_overlap(numbers):
    task = pairs(numbers)
    parts = [task.split("train"), task.split("valid"), task.test_split()]
    assert [len(part) for part in parts] == [160, 20, 20]
    assert len({tuple(row) for part in parts for row in part.inputs.tolist()}) == 200


def test_parallel_text_batch_is_a_function_of_seed_and_step(numbers):
    task, other = pairs(numbers), pairs(numbers)
    task.batch(0, 8, seed=1)
    first, again = task.batch(3, 8, seed=1), other.batch(3, 8, seed=1)
    assert all(torch.equal(one, two) for one, two in zip(first.tensors, again.tensors, strict=True))
    assert not torch.equal(first.inputs, task.batch(3, 8, seed=2).inputs)


def test_parallel_text_leaves_long_pairs_out(numbers):
    task = pairs(numbers, target_length=4)
    kept = sum(map(len, (task.split("train"), task.split("valid"), task.test_split())))
    words = [line.split() for line in (numbers / "train.words").read_text().splitlines()]
    assert kept == sum(len(line) <= 3 for line in words)
    with pytest.raises(TaskError, match="none of the"):
        pairs(numbers, source_length=2, target_length=2, level="character").split("train")


def test_parallel_text_joined_vocabulary_is_shared(numbers):
    task = pairs(numbers, joined=True)
    assert task.vocabularies[0] is task.vocabularies[1]
    assert set("0123456789") | set(UNITS[1:]) <= set(task.vocabularies[0].tokens)


def test_parallel_text_unequal_lines_are_named(numbers):
    file = numbers / "train.words"
    file.write_text(file.read_text() + "one more\n")
    with pytest.raises(TaskError, match=r"train\.digits' has 200 lines and .*train\.words' has 201"):
        pairs(numbers)


def test_parallel_text_empty_line_is_named(numbers):
    lines = (numbers / "train.words").read_text().splitlines()
    lines[11] = " "
    (numbers / "train.words").write_text("\n".join(lines) + "\n")
    with pytest.raises(TaskError, match=r"train\.words': line 12 is empty"):
        pairs(numbers).split("train")


def test_parallel_text_missing_partner_is_named(numbers):
    (numbers / "dev.digits").write_text("1\n2\n3\n")
    with pytest.raises(TaskError, match=r"dev\.words"):
        pairs(numbers)
    (numbers / "train.words").unlink()
    with pytest.raises(TaskError, match=r"train\.words"):
        pairs(numbers)


def test_token_accuracy_counts_labelled_positions_only():
    inputs = torch.tensor([[0, 1, 2], [2, 1, 0]])
    labels = torch.tensor([[0, 1, IGNORED], [2, 0, IGNORED]])

    def network(tokens, shift):
        return torch.nn.functional.one_hot((tokens + shift) % 3, 3).float()

    samples = Samples(inputs, labels, (torch.zeros_like(inputs),))
    assert measure_accuracy(network, samples) == 0.75


def test_samples_of_images_are_told_as_they_are():
    logits = torch.randn(3, 5)
    samples = Samples(torch.zeros(3, 1), torch.tensor([1, 2, 3]))
    assert samples.labelled(logits)[0] is logits


def test_decoder_supernet_trains_and_scores_on_text(documentation, tmp_path):
    task = catalog.get("text", path=str(documentation), length=12)
    space = spaces.get("decoder", "tiny", vocabulary=task.classes, length=12)
    trained = SupernetTrainer(space, task, SETTINGS, seed=0, directory=tmp_path).run()
    scorer = SupernetScorer(space, task, trained.weights, SETTINGS)
    genome = space.largest()
    assert scorer.score(genome) == measure_accuracy(scorer.extract(genome), scorer.valid)


def test_hat_supernet_trains_and_scores_on_parallel_text(numbers, tmp_path):
    task = pairs(numbers)
    source, target = map(len, task.vocabularies)
    sizes = {"source_vocabulary": source, "target_vocabulary": target, "source_length": 5, "target_length": 6}
    space = spaces.get("hat", "tiny", **sizes)
    trained = SupernetTrainer(space, task, SETTINGS, seed=0, directory=tmp_path).run()
    scorer = SupernetScorer(space, task, trained.weights, SETTINGS)
    genome = space.largest()
    assert scorer.score(genome) == measure_accuracy(scorer.extract(genome), scorer.valid)


def test_hat_trained_alone_learns_to_spell_numbers(numbers):
    task = pairs(numbers)
    source, target = map(len, task.vocabularies)
    sizes = {"source_vocabulary": source, "target_vocabulary": target, "source_length": 5, "target_length": 6}
    space = spaces.get("hat", "tiny", **sizes)
    settings = StandaloneSettings(steps=150, batch_size=32, optimizer="adamw", learning_rate=0.01)
    result = train_standalone(space, space.decode(space.largest()), task, settings, seed=0)
    labels = task.split("valid").labels
    often = torch.bincount(labels[labels != IGNORED]).max() / (labels != IGNORED).sum()
    assert result.valid_accuracy > float(often) + 0.2  # far above telling always the most frequent token
