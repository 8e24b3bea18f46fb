"""Tasks that need no files: numbers in words and whistled tones, each against what it claims to be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archsmith.errors import ConfigError
from archsmith.predictors.tasks import catalog
from archsmith.predictors.tasks.numbers import NumberLines, spelled
from archsmith.predictors.tasks.task import IGNORED
from archsmith.predictors.tasks.tones import COURSES, ToneSounds


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (20, "twenty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (407, "four hundred seven"),
        (1000, "one thousand"),
        (5_010, "five thousand ten"),
        (999_999, "nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)
def test_numbers_are_spelled_as_in_english(number: int, words: str) -> None:
    assert " ".join(spelled(number)) == words


def test_words_tell_every_number_apart() -> None:
    assert len({" ".join(spelled(number)) for number in range(10_000)}) == 10_000


def test_splits_of_numbers_are_disjoint_and_complete() -> None:
    lines = NumberLines(largest=999)
    splits = [lines.read(split)[0] for split in ("train", "valid", "test")]
    together = [int(line.replace(" ", "")) for lines in splits for line in lines]
    assert sorted(together) == list(range(1000))
    assert [len(split) for split in splits] == [800, 100, 100]


def test_samples_of_numbers_are_their_digits_and_words() -> None:
    task = catalog.get("numbers")
    assert task.input_shapes == ((5,), (7,))
    assert dict(task.sizes) == {"source_vocabulary": 14, "target_vocabulary": 34}
    source, target = task.vocabularies  # type: ignore[attr-defined]  # of the parallel text that it is
    samples = task.batch(0, 8, seed=0)
    for digits, told, labels in zip(samples.inputs, samples.extra[0], samples.labels, strict=True):
        number = int("".join(source.tokens[int(token)] for token in digits if int(token) > 3))
        words = [target.tokens[int(token)] for token in labels if int(token) != IGNORED]
        assert words == [*spelled(number), "<end>"]
        assert [target.tokens[int(token)] for token in told][: len(words)] == ["<begin>", *words[:-1]]


def test_tones_are_as_many_of_each_class_and_always_the_same() -> None:
    sounds = ToneSounds(clips=8, length=1000, noise=0.3)
    first, again = (list(sounds.read("train")) for _ in range(2))
    assert np.bincount([label for _, label in first]).tolist() == [4] * len(COURSES)
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    rows = {sound.tobytes() for split in ("train", "valid", "test") for sound, _ in sounds.read(split)}
    assert len(rows) == 8 * len(COURSES)


def test_pitch_of_a_clear_tone_follows_its_course() -> None:
    """The strongest frequency of the beginning, the middle and the end, by a transform that the task has no part in."""
    sounds = ToneSounds(clips=8, length=4000, noise=0.0)
    for sound, label in sounds.read("train"):
        first, middle, last = (_strongest(sound[start : start + 400]) for start in (0, 1800, 3600))
        holds = {
            "dip": middle < min(first, last),
            "early_step": middle == last > first,
            "fall": first > middle > last,
            "hold": first == middle == last,
            "late_step": first == middle < last,
            "peak": middle > max(first, last),
            "rise": first < middle < last,
            "trill": first < last,
        }
        assert holds[sounds.classes[label]], sounds.classes[label]


def _strongest(sound: np.ndarray) -> int:
    """In steps of 20 Hz."""
    return int(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax())


def test_tones_can_be_told_apart_by_their_spectrograms_alone() -> None:
    """Nearest class mean of the training clips' centred spectrograms, far above chance but no trifle."""
    task = catalog.get("tones", clips=40)
    train, valid = task.split("train"), task.split("valid")
    means = torch.stack([train.inputs[train.labels == label].mean(0).flatten() for label in range(task.classes)])
    told = torch.cdist(valid.inputs.flatten(1), means).argmin(1)
    share = float((told == valid.labels).float().mean())
    assert 2 / task.classes < share < 0.95


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("numbers", {"largest": 9}, "task.options.largest: got 9; allowed: an integer from 99 to 999999"),
        ("tones", {"clips": 3}, "task.options.clips: got 3; allowed: an integer of at least 4"),
        ("tones", {"noise": -1.0}, "task.options.noise: got -1.0; allowed: a number from 0 to 100"),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        catalog.get(name, **options)
    assert message in str(caught.value)
