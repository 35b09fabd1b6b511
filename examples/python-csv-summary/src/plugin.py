"""Says what is in a CSV file."""

import csv
import io
from collections import Counter
from statistics import fmean, median

from caisson import Context, Failure, artifacts, log


def summarise(input: dict, context: Context) -> dict:
    header, rows = read(input["csv"], input.get("delimiter"))
    columns = [describe(name, [row[at] for row in rows]) for at, name in enumerate(header)]
    log.info(f"read {len(rows)} rows", columns=len(columns))
    report = None
    if input.get("report"):
        report = artifacts.put("summary.md", markdown(len(rows), columns), "text/markdown")
    return {"rows": len(rows), "columns": columns, "report": report}


def read(text: str, delimiter: str | None) -> tuple[list[str], list[list[str]]]:
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise Failure("CSV_EMPTY", "the file is empty: it needs at least a header", category="validation", retry="never")
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or found(text)))
    header, rows = lines[0], [line for line in lines[1:] if line]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            message = f"row {number} has {len(row)} values, the header has {len(header)} names"
            raise Failure("CSV_RAGGED", message, category="validation", retry="never", details={"row": number})
    return header, rows


def found(text: str) -> str:
    """The delimiter that the header has most of."""
    header = text.splitlines()[0]
    return max(",;\t|", key=header.count)


def describe(name: str, values: list[str]) -> dict:
    given = [value.strip() for value in values if value.strip()]
    column: dict = {"name": name, "type": "empty", "missing": len(values) - len(given)}
    if not given:
        return column
    numbers = as_numbers(given)
    if numbers is not None:
        return column | {
            "type": "number",
            "min": min(numbers),
            "max": max(numbers),
            "mean": round(fmean(numbers), 6),
            "median": median(numbers),
        }
    counts = Counter(given)
    return column | {"type": "text", "distinct": len(counts), "mostFrequent": counts.most_common(1)[0][0]}


def as_numbers(values: list[str]) -> list[float] | None:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    # What JSON has no word for is text.
    return numbers if all(abs(number) < float("inf") for number in numbers) else None


def markdown(rows: int, columns: list[dict]) -> str:
    lines = [f"# {rows} rows", "", "| column | type | missing | values |", "|---|---|---|---|"]
    for column in columns:
        known = [f"{key} {column[key]}" for key in ("min", "max", "mean", "median", "distinct", "mostFrequent") if key in column]
        lines.append(f"| {column['name']} | {column['type']} | {column['missing']} | {', '.join(known)} |")
    return "\n".join(lines) + "\n"
