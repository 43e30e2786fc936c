"""``dataset_statistics.json`` and ``.txt`` as open-instruct writes them: same keys, same order, same arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from castore.format.run import RunConfiguration, SourceRecord

Counts = tuple[SourceRecord, int, int, int]
"""A source of the run record with its samples, tokens and trainable tokens in the output."""


def olmo_core_statistics(
    configuration: RunConfiguration, counts: Sequence[Counts], time_text: str, folder: str
) -> dict[str, Any]:
    """The statistics document.

    Args:
        configuration: Of the run record.
        counts: By source, in order of first appearance in the output.
        time_text: Timestamp as shown.
        folder: Output directory as shown.

    Returns:
        A document for ``json.dumps``. Numbers are plain Python divisions in the order that open-instruct divides, so
        that they agree in the last digit.
    """
    merged = _merged(counts)
    samples = sum(row[1] for row in merged)
    tokens = sum(row[2] for row in merged)
    trainable = sum(row[3] for row in merged)
    return {
        "timestamp": time_text,
        "output_directory": folder,
        "configuration": {
            "tokenizer": configuration.tokenizer,
            "max_sequence_length": configuration.max_seq_length,
            "chat_template": configuration.chat_template,
        },
        "per_dataset_statistics": [_dataset(*row, tokens, samples) for row in merged],
        "overall_statistics": {
            "total_datasets": len(merged),
            "total_instances": samples,
            "total_tokens": tokens,
            "trainable_tokens": trainable,
            "trainable_percentage": trainable / tokens * 100 if tokens else 0,
            "instances_filtered": 0,
            "average_sequence_length": tokens / samples if samples else 0,
        },
    }


def _merged(counts: Sequence[Counts]) -> list[Counts]:
    """One name that occurs twice in a mix is one entry: counts added, the rest of the last one."""
    merged: dict[str, Counts] = {}
    for source, samples, tokens, trainable in counts:
        _, *before = merged.get(source.name, (source, 0, 0, 0))
        merged[source.name] = (source, before[0] + samples, before[1] + tokens, before[2] + trainable)
    return list(merged.values())


def _dataset(
    source: SourceRecord, samples: int, tokens: int, trainable: int, all_tokens: int, all_samples: int
) -> dict[str, Any]:
    known = source.rows, source.selected, source.samples
    rows, selected, kept = (samples if count is None else count for count in known)
    return {
        "dataset_name": source.name,
        "dataset_split": "train" if source.split is None else source.split,
        "initial_instances": selected,
        "instances_after_transformation": kept,
        "instances_filtered_during_transformation": selected - kept,
        "frac_or_num_samples": _amount("1.0" if source.amount is None else source.amount),
        "original_dataset_size": rows,
        "is_upsampled": selected > rows,
        "upsampling_factor": selected / rows if rows else 1.0,
        "final_instances_in_output": samples,
        "final_tokens_in_output": tokens,
        "final_trainable_tokens_in_output": trainable,
        "instances_filtered_after_tokenization": 0,
        "avg_tokens_per_instance": tokens / samples if samples else 0,
        "percentage_of_total_tokens": tokens / all_tokens * 100 if all_tokens else 0,
        "percentage_of_total_instances": samples / all_samples * 100 if all_samples else 0,
    }


def _amount(text: str) -> float | int:
    """The amount of a source as open-instruct parses it: a share with a point, a count without."""
    return float(text) if "." in text else int(text)


def as_text(statistics: Mapping[str, Any]) -> str:
    """The statistics for people, in the lines of open-instruct's ``dataset_statistics.txt``."""
    configuration, overall = statistics["configuration"], statistics["overall_statistics"]
    rule = "=" * 80
    lines = [
        "Dataset Statistics Report",
        rule,
        f"Generated: {statistics['timestamp']}",
        f"Output Directory: {statistics['output_directory']}",
        "",
        "Configuration:",
        "-" * 40,
        f"- Tokenizer: {configuration['tokenizer']}",
        f"- Max Sequence Length: {configuration['max_sequence_length']}",
        f"- Chat Template: {configuration['chat_template']}",
        "",
        "Per-Dataset Statistics:",
        rule,
    ]
    for dataset in statistics["per_dataset_statistics"]:
        lines += _dataset_lines(dataset)
    lines += [
        "",
        rule,
        "Overall Statistics:",
        rule,
        f"- Total datasets: {overall['total_datasets']}",
        f"- Total instances: {overall['total_instances']:,}",
        f"- Total tokens: {overall['total_tokens']:,}",
        f"- Trainable tokens: {overall['trainable_tokens']:,} ({overall['trainable_percentage']:.1f}%)",
        f"- Instances filtered out: {overall['instances_filtered']}",
        f"- Average sequence length: {overall['average_sequence_length']:.1f}",
    ]
    return "\n".join(lines) + "\n"


def _dataset_lines(dataset: Mapping[str, Any]) -> list[str]:
    amount = dataset["frac_or_num_samples"]
    kept = dataset["instances_after_transformation"]
    lines = [
        "",
        f"Dataset: {dataset['dataset_name']}",
        f"- Split: {dataset['dataset_split']}",
        "",
        "Pre-transformation:",
        f"  - Instances loaded: {dataset['initial_instances']}",
        f"  - Instances after transformation: {kept}",
        f"  - Instances filtered during transformation: {dataset['instances_filtered_during_transformation']}",
        f"  - Sampling fraction: {amount}" if isinstance(amount, float) else f"  - Sample count: {amount}",
    ]
    if dataset["is_upsampled"]:
        lines += [
            f"  - Original dataset size: {dataset['original_dataset_size']}",
            f"  - Upsampling factor: {dataset['upsampling_factor']:.2f}x",
            f"  - Upsampled to: {kept} instances",
        ]
    return [
        *lines,
        "",
        "Final output statistics (after shuffling):",
        f"  - Instances in output: {dataset['final_instances_in_output']:,}",
        f"  - Total tokens: {dataset['final_tokens_in_output']:,}",
        f"  - Trainable tokens: {dataset['final_trainable_tokens_in_output']:,}",
        f"  - Instances with no labels: {dataset['instances_filtered_after_tokenization']}",
        f"  - Average tokens per instance: {dataset['avg_tokens_per_instance']:.1f}",
        f"  - Percentage of total tokens: {dataset['percentage_of_total_tokens']:.1f}%",
        f"  - Percentage of total instances: {dataset['percentage_of_total_instances']:.1f}%",
    ]
