"""TRL's SFTTrainer takes a dataset as it is: three steps of a tiny random model, on the tokens and labels of a ref."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import castore
from castore.dataset import Dataset
from tests.docs import console
from tests.support.jobs import TOKENIZER, example_rows, tokenize, write_rows

pytest.importorskip("trl")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of libraries that are not ours

BATCH = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("trl")
    repository = castore.open(str(folder / "repo"), create=True)
    path = write_rows(folder / "rows.jsonl", example_rows())
    tokenize(repository, [(path, "1.0")], "golden/x", max_seq_length=128)
    return castore.open(str(folder / "repo"))["golden/x"]


@pytest.mark.parametrize("streaming", [False, True], ids=["dataset", "stream"])
def test_three_steps_from_a_ref(data: Dataset, tmp_path: Path, streaming: bool) -> None:
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(TOKENIZER)
    assert data.vocabulary is not None
    config = transformers.LlamaConfig(
        vocab_size=len(data.vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    model = transformers.LlamaForCausalLM(config)
    given = data.to_hf(streaming=True) if streaming else data.to_hf(cache_dir=str(tmp_path / "cache"))
    trainer = SFTTrainer(
        model=model,
        train_dataset=given,
        processing_class=tokenizer,
        args=SFTConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=3,
            per_device_train_batch_size=BATCH,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            bf16=False,
            max_length=None,
            shuffle_dataset=False,
            data_seed=1,
        ),
    )
    seen: list[dict[str, Any]] = []
    real = trainer.compute_loss

    def compute_loss(model: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        seen.append({name: value.clone() for name, value in inputs.items() if torch.is_tensor(value)})
        return real(model, inputs, *arguments, **options)

    trainer.compute_loss = compute_loss
    before = model.lm_head.weight.detach().clone()
    done = trainer.train()
    assert done.global_step == 3
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert not torch.equal(before, model.lm_head.weight)
    # What reached the model are samples of the dataset with its labels, padded, and no other.
    known = {sample.token_ids.tobytes(): sample.labels_mask for sample in data}
    assert sum(len(inputs["input_ids"]) for inputs in seen) == 3 * BATCH
    for inputs in seen:
        for ids, labels, real_tokens in zip(
            inputs["input_ids"], inputs["labels"], inputs["attention_mask"].bool(), strict=True
        ):
            mask = known[ids[real_tokens].numpy().astype(np.uint32).tobytes()]
            assert np.array_equal(labels[real_tokens].numpy() != -100, mask)
            assert torch.equal(labels[real_tokens][mask], ids[real_tokens][mask])
            assert (labels[~real_tokens] == -100).all()


def test_the_page_takes_three_steps(tmp_path: Path) -> None:
    page = console.PROJECT / "docs" / "how-to" / "read-from-python.md"
    outcomes = list(console.run(page, tmp_path))
    assert [str(outcome) for outcome in outcomes if not outcome.agrees] == []
    assert any("trainer.train()" in outcome.command.text for outcome in outcomes)
