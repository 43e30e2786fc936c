"""CPU of ``ChatTokenizer.tokenize`` on raw rows against the tokenizer library's bare ``encode_batch`` of their text.

    python tests/benchmarks/tokenize_ratio.py t0.jsonl dolma2-tokenizer olmo --max-seq-length 4096

The library gets the texts already rendered, in batches of the same rows, with one thread, and nothing is done with
what it returns. castore parses, checks, renders, encodes, and derives labels. Both see the batches alternately, so
that a change of pace of the machine hits both. Loading the tokenizer is counted for neither.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

BATCH_BYTES = 1 << 19


def batches(path: Path, rows_max: int | None) -> list[list[bytes]]:
    rows = path.read_bytes().splitlines()[:rows_max]
    cut: list[list[bytes]] = [[]]
    size = 0
    for row in rows:
        if size >= BATCH_BYTES:
            cut.append([])
            size = 0
        cut[-1].append(row)
        size += len(row)
    return cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jsonl", type=Path)
    parser.add_argument("tokenizer")
    parser.add_argument("template")
    parser.add_argument("--max-seq-length", type=int)
    parser.add_argument("--rows", type=int, help="only the first so many")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    from castore.ingest.chat import json_parser, parse_row
    from castore.ingest.compiled import row_renderer
    from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, TokenizerFolder

    folder = TokenizerFolder.load(arguments.tokenizer)
    template = ChatTemplate.resolve(arguments.template, folder)
    ours = ChatTokenizer(folder, template, arguments.max_seq_length)
    path = "fast" if ours.is_fast else "exact"
    library = folder.build()
    render = row_renderer(template.text, folder.special_tokens)
    loads, json_error = json_parser()

    raw_s = ours_s = 0.0
    rows = tokens = kept = 0
    for batch in batches(arguments.jsonl, arguments.rows):
        conversations = [parse_row(row, loads, json_error) for row in batch]
        texts = [render(conversation.messages, conversation.tools, False).text for conversation in conversations]
        started = time.process_time()
        encodings = library.encode_batch(texts, add_special_tokens=False)
        raw_s += time.process_time() - started
        tokens += sum(map(len, encodings))
        del encodings, conversations, texts
        started = time.process_time()
        result = ours.tokenize(batch)
        ours_s += time.process_time() - started
        rows, kept = rows + len(batch), kept + len(result.rows)
    print(f"{rows} rows, {kept} kept, {tokens} tokens uncut, {path} path")
    print(f"encode_batch  {raw_s:8.2f} CPU s  {tokens / raw_s / 1e6:6.2f} M tokens/s")
    print(f"tokenize      {ours_s:8.2f} CPU s  {tokens / ours_s / 1e6:6.2f} M tokens/s")
    print(f"ratio         {ours_s / raw_s:8.2f}")


if __name__ == "__main__":
    main()
