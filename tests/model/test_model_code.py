"""Code that a model brings along is never run, whoever asks for the model, and nobody is asked whether it may."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from tiny import WORDS, word_tokenizer
from transformers import BertConfig, BertModel

from clip_qdrant.cli import run
from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.new import new_checkpoint
from clip_qdrant.model.published.load import load_published

ROOT = Path(__file__).parents[2]
FOLDERS = ("clip_qdrant", "ingestion", "training")
OWN = "configuration_own.OwnConfig"
CODE = """
from pathlib import Path
from transformers import PretrainedConfig
Path({crater!r}).touch()
class OwnConfig(PretrainedConfig):
    model_type = "own"
"""


@pytest.fixture
def crater(tmp_path: Path) -> Path:
    return tmp_path / "crater"


@pytest.fixture
def folder(tmp_path: Path, crater: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of a kind that it alone knows, whose code leaves a crater; and somebody who says yes to everything."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "configuration_own.py").write_text(CODE.format(crater=str(crater)))
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": OWN}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": [OWN, None]}}))
    return folder


def test_a_model_with_code_of_its_own_is_refused_without_a_question(
    folder: Path, crater: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match="is a own model; models of the families clip, "):
        load_published(str(folder))
    with pytest.raises(CheckpointError, match=r"code of its own .*not run here"):
        new_checkpoint("test_efficientnet", str(folder), pretrained=False)
    arguments = ["search", "x", "--model", f"hf:{folder}", "--location", str(tmp_path / "store")]
    assert run(arguments) == 4
    assert not crater.exists()
    assert "[y/N]" not in "".join(capsys.readouterr())


def test_a_model_of_a_known_kind_runs_on_the_code_of_transformers(folder: Path, crater: Path) -> None:
    size = len(json.loads(word_tokenizer(WORDS))["model"]["vocab"])
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**small, vocab_size=size)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": OWN, "AutoModel": OWN}}))
    (folder / "tokenizer.json").write_text(word_tokenizer(WORDS))
    kind = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "auto_map": {"AutoTokenizer": [OWN, None]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    made = new_checkpoint("test_efficientnet", str(folder), dim=16, pretrained=False)
    assert made.config["text"]["model_type"] == "bert"
    assert not crater.exists()


def test_every_call_that_could_run_code_of_a_model_says_that_it_must_not() -> None:
    calls = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", {word.arg: ast.unparse(word.value) for word in node.keywords})
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if "transformers" in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".from_pretrained", ".from_config"))
    ]

    assert len(calls) >= 6
    assert [where for where, words in calls if words.get("trust_remote_code") != "False"] == []
