"""Benchmark tables: the published formats, one's own, and what is said of files that do not fit."""

from __future__ import annotations

import base64
import bz2
import csv
import json
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from archsmith import spaces
from archsmith.errors import ConfigError
from archsmith.predictors.tables.formats import read_table
from archsmith.predictors.tables.table import Column, Table

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def cells():
    return spaces.get("nas_bench_201", "cifar10")


def test_lookup_keeps_the_order_asked_for_and_tells_what_is_absent(cells) -> None:
    genomes = cells.sample(500, np.random.default_rng(0))
    known = genomes[:400]
    values = cells.macs(known).astype(float)
    table = Table(cells, known, {"macs": Column.of(values)}, name="t")
    order = np.random.default_rng(1).permutation(len(known))
    np.testing.assert_array_equal(table.values("macs", known[order]), values[order])
    absent = genomes[400:][~(genomes[400:, None] == known).all(-1).any(1)]
    assert len(absent) > 50
    assert np.isnan(table.values("macs", absent)).all()
    with pytest.raises(ConfigError, match=r"speed.*macs"):
        table.values("speed", known)


def test_repeats_are_averaged_over_what_was_measured(cells) -> None:
    genomes = np.repeat(cells.sample(2, np.random.default_rng(3)), 3, axis=0)
    table = Table(cells, genomes, {"accuracy": Column.of(np.array([0.1, 0.2, np.nan, 0.5, 0.5, 0.8]))}, name="t")
    assert len(table) == 2
    np.testing.assert_allclose(table.values("accuracy", genomes[[0, 3]]), [0.15, 0.6])


def test_fidelity_takes_the_last_point_reached(cells) -> None:
    genomes = cells.sample(1, np.random.default_rng(0))
    table = Table(cells, genomes, {"accuracy": Column.of(np.array([[0.3, 0.6, 0.9]]), (0.25, 0.5, 1.0))}, name="t")
    asked = np.repeat(genomes, 5, axis=0)
    values = table.values("accuracy", asked, np.array([0.1, 0.25, 0.4, 0.5, 1.0]))
    assert values.tolist() == [0.3, 0.3, 0.3, 0.6, 0.9]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_own_table(tmp_path: Path, ending: str) -> None:
    space = spaces.get("mobilenet", "tiny")
    genomes = space.sample(20, np.random.default_rng(0))
    rows = []
    for genome in genomes:
        choices = {gene.name: gene.values[choice] for gene, choice in zip(space.genes, genome, strict=True)}
        rows.append({**choices, "top1": float(genome.sum()), "note": "fine"})
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        pd = pytest.importorskip("pandas", reason="Parquet needs pandas and pyarrow")
        pytest.importorskip("pyarrow", reason="Parquet needs pandas and pyarrow")
        pd.DataFrame(rows).to_parquet(path)
    else:
        plain = tmp_path / "mine.csv"
        with plain.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        if ending == "csv.gz":
            import gzip

            path.write_bytes(gzip.compress(plain.read_bytes()))
    table = read_table(path, space, {"accuracy": "top1"})
    np.testing.assert_array_equal(table.values("accuracy", genomes), genomes.sum(axis=1))
    assert "note" not in table.columns


def test_own_table_that_does_not_fit_says_where(tmp_path: Path) -> None:
    space = spaces.get("nas_bench_macro")
    path = tmp_path / "mine.csv"
    names = [gene.name for gene in space.genes]
    path.write_text(",".join([*names[1:], "accuracy"]) + "\n")
    with pytest.raises(ConfigError, match=names[0]):
        read_table(path, space)
    path.write_text(",".join([*names, "accuracy"]) + "\n" + ",".join(["9"] * 8 + ["0.5"]) + "\n")
    with pytest.raises(ConfigError, match="row 1"):
        read_table(path, space)
    path.write_text(",".join([*names, "accuracy"]) + "\n1,2\n")
    with pytest.raises(ConfigError, match="line 2"):
        read_table(path, space)
    with pytest.raises(ConfigError, match="existing file"):
        read_table(tmp_path / "none.csv", space)
    np.savez(tmp_path / "wrong.npz", genomes=np.full((3, 8), 7), accuracy=np.ones(3))
    with pytest.raises(ConfigError, match="gene"):
        read_table(tmp_path / "wrong.npz", space)


def nats_result(seed: int, epochs: int) -> dict:
    last = epochs - 1
    return {
        "eval_acc1es": {f"x-valid@{last}": 70.0 + seed + epochs / 10, f"ori-test@{last}": 60.0 + seed},
        "flop": 15.5, "params": 0.3, "latency": [0.01, 0.03], "seed": seed, "net_state_dict": None,
    }  # fmt: skip


def nats_info(name: str, index: int) -> OrderedDict:
    infos = OrderedDict()
    for hp in ("12", "200"):
        results = OrderedDict()
        for dataset in ("cifar10-valid", "cifar10"):
            for seed in (777, 888):
                results[(dataset, seed)] = nats_result(seed - 777, int(hp))
        infos[hp] = {"arch_index": index, "arch_str": name, "all_results": results, "dataset_seed": {}}
    return infos


NAMES = [
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|",
    "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
]


@pytest.mark.parametrize("as_folder", [False, True])
def test_nats_bench(tmp_path: Path, cells, as_folder: bool) -> None:
    infos = {index: nats_info(name, index) for index, name in enumerate(NAMES)}
    if as_folder:
        path = tmp_path / "NATS-tss-v1_0-3ffb9-simple"
        path.mkdir()
        (path / "meta.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps({"meta_archs": NAMES})))
        for index, info in infos.items():
            (path / f"{index:06d}.pickle.pbz2").write_bytes(bz2.compress(pickle.dumps(info)))
    else:
        path = tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2"
        data = {"meta_archs": NAMES, "arch2infos": infos, "evaluated_indexes": {0, 1}}
        path.write_bytes(bz2.compress(pickle.dumps(data)))
    table = read_table(path, cells)
    choices = {f"{name}": index for index, name in enumerate(cells.genes[0].values)}
    edges = ["nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none"]
    genome = np.array([[choices[edge] for edge in edges]], dtype=np.int16)
    both = np.repeat(genome, 2, axis=0)
    found = table.values("accuracy", both, np.array([12 / 200, 1.0]))
    # Mean over the seeds 777 and 888 in per cent: 70 + (0 + 111) / 2 + epochs / 10.
    np.testing.assert_allclose(found, [(70 + 55.5 + 1.2) / 100, (70 + 55.5 + 20) / 100])
    np.testing.assert_allclose(table.values("test_accuracy", genome), [(60 + 55.5) / 100])
    np.testing.assert_allclose(table.values("latency_ms@nats_bench", genome), [20.0])
    np.testing.assert_allclose(table.values("macs", genome), [15.5e6])


def test_nats_bench_never_runs_code(tmp_path: Path, cells) -> None:
    class Harm:
        def __reduce__(self):
            return (eval, ("1",))

    path = tmp_path / "bad.pickle.pbz2"
    path.write_bytes(bz2.compress(pickle.dumps({"meta_archs": [Harm()]})))
    with pytest.raises(ConfigError, match=r"builtins\.eval"):
        read_table(path, cells)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(*parts: tuple[int, float | int | bytes]) -> bytes:
    out = b""
    for field, payload in parts:
        match payload:
            case bytes():
                out += varint(field << 3 | 2) + varint(len(payload)) + payload
            case int():
                out += varint(field << 3) + varint(payload)
            case float():
                out += varint(field << 3 | 1) + struct.pack("<d", payload)
    return out


def record(epochs: int, seconds: float, valid: float, test: float) -> bytes:
    points = [
        message((1, float(at)), (2, seconds), (3, 1.0), (4, valid * at / epochs), (5, test * at / epochs), (6, b"path"))
        for at in (0, epochs // 2, epochs)
    ]
    metrics = message(*((1, point) for point in points), (2, 300_000), (3, 10.0))
    matrix = "0110000100010000"
    data = json.dumps(
        ["hash", epochs, matrix, "input,conv3x3-bn-relu,maxpool3x3,output", base64.b64encode(metrics).decode()]
    ).encode()
    return struct.pack("<Q", len(data)) + b"crc1" + data + b"crc2"


def test_nas_bench_101(tmp_path: Path) -> None:
    space = spaces.get("nas_bench_101", "cifar10")
    path = tmp_path / "nasbench_full.tfrecord"
    runs = [record(12, 5.0, 0.5, 0.4), record(108, 50.0, 0.9, 0.8), record(108, 52.0, 0.92, 0.82)]
    path.write_bytes(b"".join(runs))
    table = read_table(path, space)
    # The same module with its two branches swapped: another genome, one row of the benchmark.
    matrix = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    for operations in (["conv3x3-bn-relu", "maxpool3x3"], ["maxpool3x3", "conv3x3-bn-relu"]):
        genome = np.array([space.from_matrix(matrix, operations).genome], dtype=np.int16)
        np.testing.assert_allclose(table.values("accuracy", genome), [0.91])
        np.testing.assert_allclose(table.values("accuracy", genome, np.array([12 / 108])), [0.5])
        np.testing.assert_allclose(table.values("test_accuracy", genome), [0.81])
        np.testing.assert_allclose(table.values("training_s", genome), [51.0])
    path.write_bytes(runs[0][:-3])
    with pytest.raises(ConfigError, match="within a record"):
        read_table(path, space)


@pytest.mark.data
def test_tables_of_real_measurements(cells) -> None:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is absent")
    table = read_table(DATA / "nb201.npz", cells)
    assert len(table) == cells.size == 15_625
    genomes = cells.sample(1000, np.random.default_rng(0))
    assert np.isfinite(table.values("latency_ms@pixel3", genomes)).all()
    macro = spaces.get("nas_bench_macro")
    table = read_table(DATA / "nas_bench_macro.npz", macro)
    genomes = macro.sample(500, np.random.default_rng(0))
    np.testing.assert_array_equal(table.values("params", genomes), macro.params(genomes))
