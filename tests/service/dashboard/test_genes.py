from __future__ import annotations

from archsmith.service.dashboard.genes import gene_tables


def test_gene_tables_stages_and_blocks_form_one_table_in_network_order():
    general, grids = gene_tables(
        {
            "resolution": 11,
            "stages.1.depth": 1,
            "stages.1.0.kernel": 5,
            "stages.0.depth": 2,
            "stages.0.0.kernel": 3,
            "stages.0.1.kernel": 5,
            "stages.0.1.expansion": 4,
        }
    )
    assert general == (("resolution", "11"),)
    (grid,) = grids
    assert grid.title == "Stage"
    assert grid.columns == ("Depth", "Kernel", "Expansion")
    assert [name.strip() for name, _ in grid.rows] == ["Stage 0", "Block 0.0", "Block 0.1", "Stage 1", "Block 1.0"]
    assert grid.rows[2][1] == ("", "5", "4")


def test_gene_tables_ten_or_more_places_sort_by_number():
    _, (grid,) = gene_tables({f"layers.{index}.op": "conv" for index in (10, 2, 0)})
    assert [name for name, _ in grid.rows] == ["Layer 0", "Layer 2", "Layer 10"]


def test_gene_tables_without_numbers_are_all_general():
    general, grids = gene_tables({"depth": 4, "use_bias": True})
    assert general == (("depth", "4"), ("use bias", "yes"))
    assert grids == ()
