"""Settings: which source wins, what is refused and how it is said, what stays secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr

from clip_qdrant.cli import wiring
from clip_qdrant.cli.app import app
from clip_qdrant.errors import ConfigError
from clip_qdrant.settings import Settings
from clip_qdrant_ingestion.settings import IngestSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no settings from outside."""
    for name in list(os.environ):
        if name.startswith("CLIP_QDRANT_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def origins(settings: Settings) -> dict[str, str]:
    return {name: origin for name, _, origin in settings.rows()}


def test_without_any_source_the_defaults_hold() -> None:
    settings = Settings.load()

    assert (settings.model, settings.location, settings.collection) == ("bundled", "./qdrant-data", "images")
    assert (settings.runtime, settings.device) == ("auto", "auto")
    assert settings.api_key is None
    assert set(origins(settings).values()) == {"default"}


def test_arguments_win_over_environment_over_dotenv_over_toml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clip-qdrant.toml").write_text('location = "t"\nmodel = "t"\ncollection = "t"\ndevice = "t"\n')
    (folder / ".env").write_text("CLIP_QDRANT_LOCATION=d\nCLIP_QDRANT_MODEL=d\nCLIP_QDRANT_COLLECTION=d\n")
    monkeypatch.setenv("CLIP_QDRANT_LOCATION", "e")
    monkeypatch.setenv("CLIP_QDRANT_MODEL", "e")

    settings = Settings.load({"location": "a"})

    assert (settings.location, settings.model, settings.collection, settings.device) == ("a", "e", "d", "t")
    told = origins(settings)
    assert told["location"] == "given"
    assert told["model"] == "environment"
    assert told["collection"] == ".env"
    assert told["device"] == "clip-qdrant.toml"
    assert told["runtime"] == "default"


def test_an_argument_that_was_not_given_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_BATCH_SIZE", "7")

    assert Settings.load({"batch_size": None}).batch_size == 7


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_API_KEY", "")

    assert Settings.load().api_key is None


@pytest.mark.parametrize("where", ["argument", "environment", ".env"])
def test_another_toml_file_can_be_named(where: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clip-qdrant.toml").write_text("batch_size = 1\n")
    other = folder / "other.toml"
    other.write_text("batch_size = 2\n")
    if where == "environment":
        monkeypatch.setenv("CLIP_QDRANT_CONFIG", str(other))
    if where == ".env":
        (folder / ".env").write_text(f"CLIP_QDRANT_CONFIG={other}\n")

    assert Settings.load(config=other if where == "argument" else None).batch_size == 2


def test_a_named_toml_file_that_is_missing_is_an_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file nowhere\.toml: No such file"):
        Settings.load(config="nowhere.toml")


def test_a_damaged_toml_file_is_an_error_naming_it(folder: Path) -> None:
    (folder / "clip-qdrant.toml").write_text("batch_size = \n")

    with pytest.raises(ConfigError, match=r"clip-qdrant\.toml is not a TOML file: .*line 1"):
        Settings.load()


def test_an_unknown_name_in_the_toml_file_is_refused_with_the_one_that_was_meant(folder: Path) -> None:
    (folder / "clip-qdrant.toml").write_text("batch-sise = 3\n")

    with pytest.raises(
        ConfigError, match=r"clip-qdrant\.toml: there is no setting 'batch-sise'; did you mean 'batch_s"
    ):
        Settings.load()


def test_an_unknown_name_like_no_other_is_refused_with_all_there_are(folder: Path) -> None:
    (folder / "clip-qdrant.toml").write_text("colour = 3\n")

    with pytest.raises(ConfigError, match=r"no setting 'colour'; there are model, runtime, device"):
        Settings.load()


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_LOCATON", "x")

    with pytest.raises(ConfigError, match="no setting CLIP_QDRANT_LOCATON; did you mean CLIP_QDRANT_LOCATION"):
        Settings.load()


def test_variables_of_other_programs_are_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("DATABASE_URL=x\nCLIP_QDRANT_TEST_URL=y\n")
    monkeypatch.setenv("CLIP_QDRANT_DEBUG", "1")

    assert Settings.load().location == "./qdrant-data"


def test_a_wrong_variable_is_named_with_its_value_and_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_RUNTIME", "tensorrt")

    with pytest.raises(ConfigError) as caught:
        Settings.load()

    assert str(caught.value) == "CLIP_QDRANT_RUNTIME is 'tensorrt': it must be auto, onnx or torch"
    assert caught.value.__cause__ is None


def test_every_wrong_value_is_told_at_once_each_with_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clip-qdrant.toml").write_text("timeout = 0\n")
    (folder / ".env").write_text("CLIP_QDRANT_WORKERS=many\n")
    monkeypatch.setenv("CLIP_QDRANT_MAX_IMAGE_BYTES", "64 parsecs")

    with pytest.raises(ConfigError) as caught:
        IngestSettings.load({"batch_size": -1})

    lines = sorted(str(caught.value).splitlines())
    assert [line.split(":")[0] for line in lines] == [
        "CLIP_QDRANT_MAX_IMAGE_BYTES is '64 parsecs'",
        "CLIP_QDRANT_WORKERS in .env is 'many'",
        "batch_size is -1",
        "timeout in clip-qdrant.toml is 0",
    ]


@pytest.mark.parametrize("name", ["batch_size", "workers", "timeout", "max_image_bytes", "max_image_pixels"])
@pytest.mark.parametrize("value", [0, -3, True, "x", 1.5])
def test_a_number_must_be_a_whole_one_from_1(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} is"):
        IngestSettings.load({name: value})


@pytest.mark.parametrize("name", ["model", "location", "collection", "device"])
def test_a_text_must_not_be_blank(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is '  '"):
        Settings.load({name: "  "})


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(ConfigError, match="no setting 'locaton'; did you mean 'location'"):
        Settings.load({"locaton": "x"})


@pytest.mark.parametrize(("text", "number"), [("64MiB", 64 << 20), ("1 GB", 10**9), ("1000", 1000)])
def test_the_size_of_a_file_may_have_a_unit(text: str, number: int) -> None:
    assert Settings.load({"max_image_bytes": text}).max_image_bytes == number


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    settings = Settings.load({"location": "~/store", "cache_dir": "~/cache", "model": "~/model.pt"})

    assert settings.location == str(tmp_path / "store")
    assert settings.cache_dir == tmp_path / "cache"
    assert settings.model == str(tmp_path / "model.pt")


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = Settings.load({"api_key": "hunter2", "location": "https://me:hunter2@qdrant.example:6333"})

    shown = f"{settings} {settings!r} {list(settings.rows())}"

    assert "hunter2" not in shown
    assert "https://***@qdrant.example:6333" in shown
    assert settings.api_key == SecretStr("hunter2")
    assert settings.location == "https://me:hunter2@qdrant.example:6333"


@pytest.mark.parametrize("user", ["me:p@ss", "me:@", "m@e:p@s@s", "me:p@:ss"])
def test_an_at_sign_in_a_password_does_not_show_the_rest_of_it(user: str) -> None:
    location = f"http://{user}@h:1/a@b?c@d"

    assert Settings.load({"location": location}).shown_location == "http://***@h:1/a@b?c@d"
    with pytest.raises(ConfigError) as caught:
        Settings.load({"runtime": location})
    assert "'http://***@h:1/a@b?c@d'" in str(caught.value)


@pytest.mark.parametrize("name", ["api_key", "events_token"])
def test_a_secret_of_the_wrong_type_is_not_in_the_message(name: str, folder: Path) -> None:
    (folder / "clip-qdrant.toml").write_text(f"{name} = 12345\n")

    with pytest.raises(ConfigError) as caught:
        IngestSettings.load()

    assert f"{name} in clip-qdrant.toml" in str(caught.value)
    assert "12345" not in str(caught.value)


def test_settings_do_not_change() -> None:
    settings = Settings.load()

    with pytest.raises(ValueError, match="frozen"):
        settings.location = "elsewhere"  # type: ignore[misc]  # mypy knows it too


def test_the_constructor_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_LOCATION", "e")

    assert Settings(collection="c").location == "./qdrant-data"


def test_a_file_may_hold_the_settings_of_all_parts_of_the_program(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "clip-qdrant.toml").write_text('collection = "t"\ndedupe = "skip"\n')
    (folder / ".env").write_text("CLIP_QDRANT_MAX_DELETE=20%\nCLIP_QDRANT_INCLUDE=*.jpg, *.png\n")
    context = typer.Context(typer.main.get_command(app))

    settings = wiring.settings_of(context, None, IngestSettings)

    assert (settings.collection, settings.dedupe, settings.max_delete) == ("t", "skip", 0.2)
    assert settings.include == ("*.jpg", "*.png")
    assert wiring.settings_of(context).collection == "t"
    monkeypatch.setenv("CLIP_QDRANT_MAX_DELET", "20%")
    with pytest.raises(ConfigError, match="no setting CLIP_QDRANT_MAX_DELET; did you mean CLIP_QDRANT_MAX_DELETE"):
        wiring.settings_of(context)


def test_the_library_knows_no_setting_of_ingestion() -> None:
    assert {"source", "dedupe", "workers", "health"}.isdisjoint(Settings.model_fields)
    assert set(Settings.model_fields) < set(IngestSettings.model_fields)
