"""Sounds in folders: spoken by espeak-ng, spectrograms against a second implementation, faults named with the file."""

from __future__ import annotations

import shutil
import subprocess
import wave

import numpy as np
import pytest
import torch
from scipy.signal import stft

from archsmith import spaces
from archsmith.errors import ConfigError, TaskError
from archsmith.predictors.evaluation import measure_accuracy
from archsmith.predictors.supernet.scoring import SupernetScorer
from archsmith.predictors.supernet.settings import SupernetSettings
from archsmith.predictors.supernet.trainer import SupernetTrainer
from archsmith.predictors.tasks import catalog
from archsmith.predictors.tasks.speech import SpeechSettings, log_mel, mel_filters
from archsmith.predictors.tasks.wav import read_wav

RATE = 22050
"""Samples per second that espeak-ng writes."""
WORDS = ("go", "left", "stop")


@pytest.fixture(scope="session")
def spoken(tmp_path_factory):
    """One folder per word, each spoken in several voices and speeds."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed: no speech to read")
    root = tmp_path_factory.mktemp("spoken")
    for word in WORDS:
        (root / word).mkdir()
        for index, (voice, speed) in enumerate((v, s) for v in ("en", "en+f2", "de") for s in (130, 160, 190)):
            file = root / word / f"{index}.wav"
            subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-w", str(file), word], check=True)
    return root


@pytest.fixture
def own(spoken, tmp_path):
    return shutil.copytree(spoken, tmp_path / "own")


def speech(folder, **options):
    given = {"sample_rate": RATE, "mels": 20, "frames": 60} | options
    return catalog.get("speech_folder", path=str(folder), **given)


def write_wav(file, content: bytes, *, rate: int = 8000, width: int = 2, channels: int = 1) -> None:
    with wave.open(str(file), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate)
        stream.writeframes(content)


def test_speech_splits_hold_every_file_once_with_its_label(spoken):
    task = speech(spoken)
    parts = [task.split("train"), task.split("valid"), task.test_split()]
    assert sum(map(len, parts)) == 27
    assert all(set(part.labels.tolist()) == {0, 1, 2} for part in parts)
    assert parts[0].inputs.shape[1:] == task.input_shape == (20, 60)


def test_speech_inputs_are_normalised_by_band(spoken):
    inputs = speech(spoken).split("train").inputs
    np.testing.assert_allclose(inputs.mean(dim=(0, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(inputs.std(dim=(0, 2)), 1, atol=1e-2)


def test_speech_batch_is_a_function_of_seed_and_step(spoken):
    options = {"band_mask": 4, "frame_mask": 8}
    task, other = speech(spoken, **options), speech(spoken, **options)
    task.batch(0, 8, seed=1)
    first, again = task.batch(3, 8, seed=1), other.batch(3, 8, seed=1)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.inputs, task.batch(3, 8, seed=2).inputs)


def test_speech_without_shift_or_masks_shows_the_stored_clips(spoken):
    task = speech(spoken, shift=0, frames=200)  # longer than any word: nothing is left to chance
    stored = task.split("train").inputs
    shown = task.batch(0, len(stored), seed=4).inputs
    distances = torch.cdist(shown.flatten(1), stored.flatten(1)).amin(dim=1)
    assert float(distances.max()) < 0.05


def test_log_mel_equals_another_implementation():
    settings = SpeechSettings(sample_rate=8000, mels=12, frames=9)
    sound = np.random.default_rng(0).normal(size=settings.length) * 0.1
    _, _, spectrum = stft(
        sound, window="hann", nperseg=200, noverlap=120, nfft=256, boundary=None, padded=False, scaling="spectrum"
    )
    power = np.abs(spectrum * 100) ** 2  # SciPy divides by the window's sum, 100
    expected = np.log(mel_filters(12, 256, 8000).T @ power + 1e-6)
    shown = log_mel(torch.from_numpy(sound[None]).float(), settings)
    np.testing.assert_allclose(shown[0], expected, atol=2e-3)


def test_log_mel_of_a_tone_peaks_in_its_band():
    settings = SpeechSettings(sample_rate=16000, mels=40, frames=20)
    filters = mel_filters(40, 512, 16000)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(settings.length) / 16000)[None]
    assert set(log_mel(tone, settings).argmax(dim=1).flatten().tolist()) == {int(filters[32].argmax())}


def test_no_mel_band_is_silent():
    assert (mel_filters(128, 256, 16000).sum(axis=0) > 0).all()


def test_speech_lists_decide_the_splits(own):
    (own / "validation_list.txt").write_text("go/0.wav\nstop/3.wav\n")
    (own / "testing_list.txt").write_text("left/1.wav\n")
    (own / "_background_noise_").mkdir()
    task = speech(own)
    assert task.split("valid").labels.tolist() == [0, 2]
    assert task.test_split().labels.tolist() == [1]
    assert len(task.split("train")) == 24
    (own / "go" / "0.wav").unlink()
    with pytest.raises(TaskError, match=r"validation_list\.txt' lists 'go/0\.wav'"):
        speech(own)


def test_speech_wrong_sample_rate_is_named_or_resampled(spoken):
    with pytest.raises(TaskError, match=r"\.wav' has 22050 samples per second; needed: 16000"):
        speech(spoken, sample_rate=16000).split("train")
    file = spoken / "go" / "0.wav"
    whole, resampled = read_wav(file, RATE), read_wav(file, 16000, resample=True)
    assert len(resampled) == pytest.approx(len(whole) * 16000 / RATE, abs=2)
    assert speech(spoken, sample_rate=16000, resample=True).split("valid").inputs.isfinite().all()


def test_speech_cut_off_file_is_named(own):
    file = own / "left" / "2.wav"
    file.write_bytes(file.read_bytes()[:-2001])
    with pytest.raises(TaskError, match=r"left/2\.wav' is cut off"):
        read_wav(file, RATE)


@pytest.mark.parametrize("content", [b"", b"RIFF but no sound", b"ID3\x03mp3"])
def test_speech_broken_files_are_named(own, content):
    for file in (own / "stop").glob("*.wav"):
        file.write_bytes(content)
    with pytest.raises(TaskError, match=r"stop/\d\.wav': no readable PCM WAV file"):
        speech(own).split("train")


def test_speech_empty_class_is_named(own):
    (own / "up").mkdir()
    with pytest.raises(TaskError, match=r"own/up' is empty: it has no sound"):
        speech(own)


def test_read_wav_understands_every_width_and_averages_channels(tmp_path):
    sound = np.asarray([0, 1000, -1000, 32767, -32768], dtype=np.int16)
    wide = sound.astype(np.int32) << 16
    packed = wide.astype("<i4").view(np.uint8).reshape(-1, 4)
    contents = {1: ((sound >> 8) + 128).astype(np.uint8).tobytes(), 2: sound.tobytes(), 4: wide.tobytes()}
    contents[3] = packed[:, 1:].tobytes()
    for width, content in contents.items():
        write_wav(tmp_path / "one.wav", content, width=width)
        expected = (sound >> 8) << 8 if width == 1 else sound
        assert read_wav(tmp_path / "one.wav", 8000).tolist() == expected.tolist()
    write_wav(tmp_path / "two.wav", np.stack([sound, sound // 2], axis=1).tobytes(), channels=2)
    expected = np.rint((sound.astype(float) + sound // 2) / 2)
    assert read_wav(tmp_path / "two.wav", 8000).tolist() == expected.tolist()


def test_read_wav_without_sound_is_named(tmp_path):
    write_wav(tmp_path / "silent.wav", b"")
    with pytest.raises(TaskError, match=r"silent\.wav' holds no sound"):
        read_wav(tmp_path / "silent.wav", 8000)


@pytest.mark.parametrize(("option", "value"), [("mels", 0), ("band_mask", 21), ("resample", 1), ("sample_rate", 1)])
def test_speech_bad_option_is_named(spoken, option, value):
    with pytest.raises(ConfigError, match=rf"task\.options\.{option}"):
        speech(spoken, **{option: value})


def test_tdnn_supernet_trains_and_scores_on_speech(spoken, tmp_path):
    task = speech(spoken)
    space = spaces.get("tdnn", "tiny", mels=20, frames=60, embedding=task.classes)
    settings = SupernetSettings(steps=4, batch_size=8, calibration_batches=1, calibration_batch_size=8)
    trained = SupernetTrainer(space, task, settings, seed=0, directory=tmp_path).run()
    scorer = SupernetScorer(space, task, trained.weights, settings)
    network = scorer.extract(space.largest())
    assert scorer.score(space.largest()) == pytest.approx(
        measure_accuracy(network, scorer.valid), abs=0.2
    )  # of 6 clips
    assert network(scorer.valid.inputs).shape == (len(scorer.valid), len(WORDS))
