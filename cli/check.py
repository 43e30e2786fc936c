"""``castore check``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from castore_cli.context import State
from castore_cli.formatting import echo_json, lost_lines, number, plural, visible
from castore_cli.parameters import (
    Number,
    Share,
    ShareType,
    choice_option,
    dataset_argument,
    json_option,
    part_size_option,
    quiet_option,
)

if TYPE_CHECKING:
    from castore.read.columns import Columns
    from castore.train.causes import Cause
    from castore.train.report import Report, Tally

VERSION = 1
"""Version of the document of ``--json``: it grows when a field changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The parameters of the command line, by the names that click gives them; its help says what they mean."""

    address: str
    trainer: str
    sequence_length: int
    max_loss: Share | None
    strict: bool
    long_doc_strategy: str
    boundaries: str
    part_bytes: int | None
    eos: int | None
    bos: int | None
    as_json: bool
    quiet: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a dataset: what the trainer makes of it, why, and what may be dropped or lost at most."""

    data: Columns
    report: Report
    causes: list[Cause]
    max_loss: Share | None
    strict: bool

    @property
    def lost(self) -> Mapping[str, Mapping[str, int]]:
        """What rows lost that became samples, as it was counted when they were tokenized."""
        statistics = self.data.statistics
        return {} if statistics is None else statistics.lost

    @property
    def refused(self) -> bool:
        """Whether the dataset is not as it was asked to be."""
        return self.over or (self.strict and bool(self.lost))

    @property
    def over(self) -> bool:
        """Whether more is dropped than may be."""
        return self.max_loss is not None and self.report.over(self.max_loss.value)


@click.command()
@dataset_argument("address")
@click.option("--trainer", type=click.Choice(["olmo-core"]), required=True, help="What will read the export.")
@click.option("--sequence-length", type=Number(1), metavar="N", required=True, help="Tokens of a training instance.")
@click.option(
    "--max-loss",
    type=ShareType(zero=True),
    metavar="SHARE",
    help="Exit 1 if more of the tokens, or of the trained ones, is dropped.",
)
@click.option("--strict", is_flag=True, help="Exit 1 if rows lost something when they were tokenized.")
@choice_option(
    "--long-doc-strategy",
    ["truncate", "fragment"],
    "truncate",
    "What the trainer does with documents over the sequence length.",
)
@choice_option(
    "--boundaries",
    ["eos", "metadata"],
    "eos",
    "Where the trainer finds documents: at EOS ids, as in local files, or in the .csv.gz files, as with URLs and "
    "with use_array_if_local=False.",
)
@part_size_option
@click.option("--eos", type=Number(0), metavar="ID", help="Id of EOS. Default: the recorded tokenizer's.")
@click.option("--bos", type=Number(0), metavar="ID", help="Id of BOS, if the trainer's tokenizer names one.")
@json_option
@quiet_option
@click.pass_obj
def check(state: State, /, **parameters: Any) -> int:
    """Tell what a trainer will make of an export of the dataset at ADDRESS, without writing it.

    Shows the documents that OLMo-core's packed dataset finds, the tokens that it drops or merges, and why.

    Exit codes: 0 done, 1 more is dropped than --max-loss allows, or --strict and rows lost something, 2 trouble.
    """
    from castore.olmo.layout import part_size
    from castore.train.causes import causes
    from castore.train.check import check_olmo_core
    from castore.train.report import Rule
    from castore_cli.progress import ProgressDisplay

    options = CheckOptions(**parameters)
    _, data = state.dataset(options.address)
    rule = Rule(
        options.sequence_length,
        _eos(data) if options.eos is None else options.eos,
        options.bos,
        fragment=options.long_doc_strategy == "fragment",
        metadata=options.boundaries == "metadata",
    )
    with ProgressDisplay("checking", "tokens", as_json=options.as_json, quiet=options.quiet) as progress:
        report = check_olmo_core(data, rule, part_bytes=part_size(options.part_bytes), report=progress.update)
    verdict = Verdict(data, report, causes(report), options.max_loss, options.strict)
    if options.as_json:
        echo_json(_document(verdict))
    else:
        _print(verdict)
    return int(verdict.refused)


def _eos(data: Columns) -> int:
    from castore.errors import InvalidInputError
    from castore.read.tokenizer import special_token_id

    found = special_token_id(data, "eos_token")
    if found is None:
        raise InvalidInputError("no tokenizer with an eos_token was recorded with this dataset: give --eos ID")
    return found


# ---- JSON


def _document(verdict: Verdict) -> dict[str, Any]:
    from dataclasses import asdict

    data, report = verdict.data, verdict.report
    rule = report.rule
    return {
        "version": VERSION,
        "trainer": "olmo-core",
        "root": data.root,
        "sequence_length": rule.sequence_length,
        "long_doc_strategy": "fragment" if rule.fragment else "truncate",
        "boundaries": "metadata" if rule.metadata else "eos",
        "eos_token_id": rule.eos,
        "bos_token_id": rule.bos,
        "max_loss": verdict.max_loss.text if verdict.max_loss else None,
        "over_max_loss": verdict.over,
        "lost": verdict.lost,
        "num_instances": report.instances,
        "documents_packed": report.pieces,
        "efficiency_packed": report.efficiency,
        **_counts(report.total),
        "sources": [{"name": _name(data, source), **_counts(tally)} for source, tally in report.by_source.items()],
        "parts": [
            {
                "documents_found": part.documents,
                "documents_packed": part.pieces,
                "num_instances": part.packing.instances,
                "tokens_packed": part.packing.tokens,
            }
            for part in report.parts
        ],
        "causes": [asdict(cause) for cause in verdict.causes],
    }


def _counts(tally: Tally) -> dict[str, Any]:
    return {
        "conversations": {
            "total": tally.conversations,
            "intact": tally.intact,
            "split": tally.split,
            "without_end": tally.unended,
            "cut_without_end": tally.cut,
            "crossing_parts": tally.crossing,
            "over_sequence_length": tally.long,
            "empty": tally.empty,
        },
        "documents_in_csv": tally.conversations - tally.empty + tally.crossings,
        "documents_found": tally.documents,
        "tokens_on_disk": tally.tokens,
        "tokens_packed": tally.packed_tokens,
        "tokens_dropped": tally.dropped_tokens,
        "tokens_mixed": tally.mixed_tokens,
        "trainable_on_disk": tally.trainable,
        "trainable_in_instances": tally.packed_trainable,
        "trainable_dropped": tally.dropped_trainable,
        "trainable_mixed": tally.mixed_trainable,
    }


# ---- text


def _print(verdict: Verdict) -> None:
    data, report = verdict.data, verdict.report
    total = report.total
    said = (
        f"OLMo-core drops {_of(total.dropped_tokens, total.tokens, 'tokens')} and "
        f"{_of(total.dropped_trainable, total.trainable, 'trainable tokens')}"
    )
    if verdict.max_loss is not None:
        said += f": {'more than' if verdict.over else 'within'} --max-loss {verdict.max_loss.text}"
    click.echo(said)
    rows = [(visible(_name(data, source)), tally) for source, tally in report.by_source.items()]
    _table([*rows, ("all", total)] if len(rows) != 1 else rows)
    click.echo(
        f"  {plural(report.instances, 'instance')} of {number(report.rule.sequence_length)} tokens in "
        f"{plural(len(report.parts), 'part')}, {_percent(total.packed_tokens, _places(report))} full"
    )
    for line in lost_lines(verdict.lost):
        click.echo(f"  - lost when tokenized, {line}")
    for cause in verdict.causes:
        click.echo(f"  - {cause.text}")
    if not report.rule.metadata and (total.split or total.unended):
        click.echo(
            "  With use_array_if_local=False, OLMo-core 3.0 takes conversations from the .csv.gz files: "
            "see --boundaries metadata"
        )


def _table(rows: list[tuple[str, Tally]]) -> None:
    heads = ("source", "conversations", "arrive whole", "documents", "tokens", "dropped", "trainable", "dropped")
    cells: list[tuple[str, ...]] = [heads]
    for name, tally in rows:
        counts = (tally.conversations, tally.intact, tally.documents, tally.tokens, tally.dropped_tokens)
        more = (tally.trainable, tally.dropped_trainable)
        cells.append((name, *map(number, (*counts, *more))))
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for row in cells:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        click.echo("  ".join(["", row[0].ljust(widths[0]), *rest]))


def _places(report: Report) -> int:
    return report.instances * report.rule.sequence_length


def _name(data: Columns, source: int) -> str:
    return data.source_name(source)


def _of(part: int, whole: int, what: str) -> str:
    return f"{number(part)} of {number(whole)} {what} ({_percent(part, whole)})"


def _percent(part: int, whole: int) -> str:
    """A percentage with two decimals, rounded down: 100 % means all, and a little is ``< 0.01 %``."""
    hundredths = 10000 * part // whole if whole else 0
    if part and not hundredths:
        return "< 0.01 %"
    return f"{hundredths // 100}.{hundredths % 100:02d} %"
