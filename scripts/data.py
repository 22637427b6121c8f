"""The stages of dvc.yaml after the raw corpus, on the parameters of one YAML file.

python -m scripts.data clean data/raw/home.jsonl data/prepared --params conf/data/home.yaml
python -m scripts.data split data/prepared data/splits --params conf/data/home.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from slipway.config.data import DataConfig
from slipway.data.preparation import prepare_rows, read_prepared, write_prepared, write_splits
from slipway.data.split import split
from slipway.errors import SlipwayError
from slipway.system.progress import Progress


def run_clean(raw: Path, out: Path, config: DataConfig) -> None:
    """Write the cleaned rows of a raw file to `out`, with counts of what was removed. Raises DataError for rows that
    are refused."""
    with TemporaryDirectory() as work:
        write_prepared(out, prepare_rows(raw, config, Path(work), Progress()))


def run_split(source: Path, out: Path, config: DataConfig) -> None:
    """Write the splits of prepared rows to `out`, with the counts of both steps."""
    with TemporaryDirectory() as work:
        prepared = read_prepared(source, config, Path(work))
        write_splits(out, split(prepared.table, prepared.rows, config), prepared)


def main() -> int:
    """Run one step; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=["clean", "split"])
    parser.add_argument("source", type=Path, help="file or folder to read")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, required=True, help="YAML file with the `data` section")
    args = parser.parse_args()
    doc = yaml.safe_load(args.params.read_text())
    config = DataConfig.model_validate({key: value for key, value in doc.items() if key != "description"})
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        {"clean": run_clean, "split": run_split}[args.stage](args.source, args.out, config)
    except SlipwayError as err:
        print(err, file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
