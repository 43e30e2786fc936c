"""CPU of a whole run (read, tokenize, hash, store, commit) against the tokenizer library's bare ``encode_batch``.

    python tests/benchmarks/tokenize_pipeline.py t0.jsonl dolma2-tokenizer olmo --max-seq-length 4096

The library gets the texts already rendered, a thousand at a time, with one thread, and nothing is done with what it
returns; loading is counted for neither, so the tokenizer's loading is measured by itself and taken off ours. Both
happen in one process, the library first and last, and its two figures are averaged.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

BATCH_ROWS = 1000


def cpu_of_encode_batch(library, texts: list[str]) -> tuple[float, int]:  # type: ignore[no-untyped-def]
    """CPU seconds and tokens of the bare library."""
    tokens = 0
    started = time.process_time()
    for at in range(0, len(texts), BATCH_ROWS):
        tokens += sum(map(len, library.encode_batch(texts[at : at + BATCH_ROWS], add_special_tokens=False)))
    return time.process_time() - started, tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jsonl")
    parser.add_argument("tokenizer")
    parser.add_argument("template")
    parser.add_argument("--max-seq-length", type=int)
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    from castore.ingest.chat import json_parser, parse_row
    from castore.ingest.compiled import row_renderer
    from castore.ingest.tokenizer import ChatTemplate, ChatTokenizer, TokenizerFolder
    from castore.repository import Repository

    folder = TokenizerFolder.load(arguments.tokenizer)
    template = ChatTemplate.resolve(arguments.template, folder)
    library = folder.build()
    render = row_renderer(template.text, folder.special_tokens)
    loads, json_error = json_parser()
    lines = Path(arguments.jsonl).read_bytes().splitlines()
    parsed = [parse_row(line, loads, json_error) for line in lines]
    texts = [render(row.messages, row.tools, False).text for row in parsed]
    del lines, parsed

    first, tokens = cpu_of_encode_batch(library, texts)
    started = time.process_time()
    warm = ChatTokenizer(TokenizerFolder.load(arguments.tokenizer), template, arguments.max_seq_length)
    warm.tokenize([b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'])
    loading = time.process_time() - started
    with tempfile.TemporaryDirectory() as temporary:
        repository = Repository.open(f"{temporary}/repository", create=True)
        started = time.process_time()
        result = repository.tokenize(
            [(arguments.jsonl, "1.0")],
            tokenizer=arguments.tokenizer,
            name="benchmark",
            chat_template=arguments.template,
            max_seq_length=arguments.max_seq_length,
            workers=1,
        )
        whole = time.process_time() - started
    second, _ = cpu_of_encode_batch(library, texts)
    raw = (first + second) / 2
    print(f"{result.samples} samples, {result.tokens} tokens stored, {tokens} tokens uncut")
    print(f"encode_batch  {raw:8.2f} CPU s  ({first:.2f}, {second:.2f})  {tokens / raw / 1e6:6.2f} M tokens/s")
    print(f"castore       {whole:8.2f} CPU s, of it {loading:.2f} to load the tokenizer")
    print(f"ratio         {(whole - loading) / raw:8.2f}")


if __name__ == "__main__":
    main()
