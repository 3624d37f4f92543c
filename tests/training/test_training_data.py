"""Pairs are read from every format alike, errors say where, mixtures count right, and same images are found."""

from __future__ import annotations

import csv
import io
import json
import pickle
import sys
import tarfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fakes import solid_image, write_image
from hypothesis import given
from hypothesis import strategies as st

from clip_qdrant.errors import ConfigError, MissingExtra, SourceError, TrainingError
from clip_qdrant.images.load import load_image
from clip_qdrant_training.data.read import (
    Mixture,
    Pair,
    Part,
    as_pairs,
    caption_key,
    image_input,
    image_name,
    pair_keys,
    read_pairs,
)

NAMES = [f"{name}.png" for name in ("red", "green", "blue", "yellow")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of a colour each, the file named after it."""
    for name in NAMES:
        write_image(tmp_path / name, name.removesuffix(".png"))
    return tmp_path


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def plain(pairs: list[Pair]) -> list[tuple[str, tuple[str, ...]]]:
    """Image names without their folder, with the captions."""
    return [(Path(image_name(pair.image, 0)).name, pair.captions) for pair in pairs]


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    solid_image(colour).save(buffer, "PNG")
    return buffer.getvalue()


def colour_of(pair: Pair) -> tuple[int, ...]:
    return load_image(image_input(pair.image), name=image_name(pair.image, 0)).rgb.getpixel((0, 0))


TWO = [("red.png", ("a red one", "all red")), ("blue.png", ("blue, as the sea",))]
KARPATHY = {
    "dataset": "tiny",
    "images": [
        {"filename": name, "split": split, "sentences": [{"raw": f"{name} one "}, {"raw": f"{name} two"}]}
        for name, split in zip(NAMES, ("train", "train", "val", "test"), strict=True)
    ],
}


@pytest.mark.parametrize(
    ("name", "text"),
    {
        "pairs.jsonl": '{"image": "red.png", "captions": ["a red one", " all red "]}\n\n'
        '{"image": "blue.png", "caption": "blue, as the sea"}\n',
        "metadata.jsonl": '{"file_name": "red.png", "text": ["a red one", "all red"]}\n'
        '{"file_name": "blue.png", "text": "blue, as the sea"}',
        "list.json": '[{"image": "red.png", "caption": ["a red one", "all red"]},'
        ' {"image": "blue.png", "caption": "blue, as the sea"}]',
        "lines.json": '{"image": "red.png", "captions": ["a red one", "all red"]}\n'
        '{"image": "blue.png", "caption": "blue, as the sea"}',
        "captions.csv": 'id,image,caption\r\n0,red.png,a red one\r\n1,blue.png,"blue, as the sea"\r\n'
        "2,red.png,all red\r\n",
        "captions.txt": "\nimage,caption\nred.png,a red one\nred.png,all red \n"
        'blue.png,"blue, as the sea"\nblue.png,\n',
        "captions.tsv": "Caption\tFilePath\na red one\tred.png\nall red\tred.png\nblue, as the sea\tblue.png\n",
        "lists.csv": 'filename,captions\nred.png,"[""a red one"", ""all red""]"\nblue.png,"blue, as the sea"\n',
        "results.csv": "image_name| comment_number| comment\nred.png| 0| a red one\nred.png| 1| all red\n"
        "blue.png| 0| blue, as the sea\n",
        "Flickr8k.token.txt": "red.png#0\ta red one\nred.png#1\tall red\nblue.png#0\tblue, as the sea\n",
        "results_20130124.token": "red.png#0\ta red one\nblue.png#0\tblue, as the sea\nred.png#1\tall red\n",
        "captions_val2017.json": json.dumps(
            {
                "images": [{"id": 7, "file_name": "red.png"}, {"id": 3, "file_name": "blue.png"}],
                "annotations": [
                    {"image_id": 7, "caption": "a red one"},
                    {"image_id": 3, "caption": "blue, as the sea\n"},
                    {"image_id": 7, "caption": "all red"},
                ],
            }
        ),
    }.items(),
)
def test_every_captions_file_gives_the_same_pairs(folder: Path, name: str, text: str) -> None:
    pairs = read_pairs(written(folder / name, "\ufeff" + text))  # the mark that some editors save
    assert plain(pairs) == TWO
    assert [colour_of(pair) for pair in pairs] == [(255, 0, 0), (0, 0, 255)]


CAPTIONS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip), min_size=1, max_size=3
)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("images")
    for name in NAMES:
        write_image(made / name, name.removesuffix(".png"))
    return made


@given(captions=st.dictionaries(st.sampled_from(NAMES), CAPTIONS, min_size=1), delimiter=st.sampled_from(",\t;|"))
def test_what_csv_and_json_lines_hold_comes_back(
    shared_folder: Path, captions: dict[str, list[str]], delimiter: str
) -> None:
    expected = [(name, tuple(text.strip() for text in texts)) for name, texts in captions.items()]
    as_lines = "\n".join(json.dumps({"image": name, "captions": texts}) for name, texts in captions.items())
    assert plain(read_pairs(written(shared_folder / "any.jsonl", as_lines))) == expected
    with (shared_folder / "any.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerow(["image", "caption"])
        rows.writerows((name, text) for name, texts in captions.items() for text in texts)
    assert plain(read_pairs(shared_folder / "any.csv")) == expected


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.jsonl", '{"image": "red.png", "caption": "fine"}\n{nonsense', "line 2 is not JSON"),
        ("a.jsonl", '{"image": "red.png", "caption": "fine"}\n[1]', "line 2 has no image"),
        ("a.jsonl", '{"image": "red.png", "caption": "fine"}\n{"image": "red.png", "captions": [" "]}', "line 2 needs"),
        ("a.json", "[3]", "row 0 has no image"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"cats": 3}', "an object with the keys cats: looked for JSON lines"),
        ("a.csv", "image,caption\nred.png,a, b\n", "line 2 has 3 columns and the header 2: .*double quotes"),
        ("a.csv", "image,caption\nred.png,fine\n,lost\n", "line 3 has no image"),
        ("a.csv", "image,caption\nred.png,fine\nblue.png, \n", r"line 3 needs captions: 'blue\.png' has none"),
        ("a.csv", 'image,caption\nred.png,"a "wrong" quote"\n', "line 2 is not CSV"),
        ("a.csv", 'image,caption\nred.png,"never closed\n', "line 2 is not CSV: unexpected end of data"),
        ("a.csv", "picture,words\nred.png,fine\n", r"first line is 'picture,words': looked for .*file_name"),
        ("a.csv", "image,caption\n", "holds no pairs"),
        ("a.txt", "", "holds no pairs"),
        ("a.txt", "red.png#0\tfine\nred.png fine\n", "line 2 is not NAME#NUMBER, a tab and a caption"),
        ("a.txt", "red.png#0\t \n", r"'red\.png' needs captions"),
        ("a.json", '{"images": [{"sentences": [], "filename": "red.png"}]}', r"images\[0\] needs filename, split"),
        ("a.json", '{"images": [{"id": 1}], "annotations": []}', r"images\[0\] needs id and file_name"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "red.png"}], "annotations": []}',
            r"image 1 'red\.png' needs cap",
        ),
        (
            "a.json",
            '{"images": [], "annotations": [{"image_id": 4, "caption": "x"}]}',
            r"annotations\[0\] is of image 4",
        ),
        ("a.json", '{"images": [], "annotations": [{"image_id": 4}]}', r"annotations\[0\] needs image_id and caption"),
    ],
)
def test_a_mistake_in_a_captions_file_is_named_with_its_place(
    folder: Path, name: str, text: str, complaint: str
) -> None:
    with pytest.raises(TrainingError, match=complaint) as caught:
        read_pairs(written(folder / name, text))
    assert str(folder / name) in str(caught.value)


def test_a_file_that_is_no_utf_8_is_refused(folder: Path) -> None:
    for name in ("a.csv", "a.json"):
        (folder / name).write_bytes("image,caption\nred.png,caf\u00e9\n".encode("latin-1"))
        with pytest.raises(TrainingError, match=r"cannot read the pairs in .*utf-8"):
            read_pairs(folder / name)


@pytest.mark.parametrize(
    ("captions", "images"),
    [
        ("captions.csv", "Images"),
        ("Flickr8k_text/captions.csv", "Flicker8k_Dataset"),
        ("captions.csv", "images"),
        ("annotations/captions_train2017.json", "train2017"),
        ("annotations/captions_train2017.json", "images/train2017"),
    ],
)
def test_images_are_found_around_the_captions_file(tmp_path: Path, captions: str, images: str) -> None:
    write_image(tmp_path / images / "red.png", "red")
    coco = {
        "images": [{"id": 1, "file_name": "lost.png"}, {"id": 2, "file_name": "red.png"}],
        "annotations": [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}],
    }
    text = json.dumps(coco) if captions.endswith("json") else "image,caption\nlost.png,a\nred.png,b\n"
    _, pair = read_pairs(written(tmp_path / captions, text))  # one that is missing leads nowhere else
    assert Path(pair.image).resolve() == tmp_path / images / "red.png"


def test_a_given_image_folder_is_the_only_one_looked_in(folder: Path, tmp_path: Path) -> None:
    table = written(tmp_path / "a.csv", "image,caption\nred.png,red\n")
    write_image(tmp_path / "other" / "red.png", "blue")
    [pair] = read_pairs(table, images=tmp_path / "other")
    assert colour_of(pair) == (0, 0, 255)
    with pytest.raises(TrainingError, match=r"none of the first 1 images .*'red\.png'.*nowhere, which is no folder"):
        read_pairs(table, images=tmp_path / "nowhere")


def test_a_folder_stands_for_the_captions_file_in_it(folder: Path) -> None:
    with pytest.raises(TrainingError, match=r"holds no pairs: looked for \*\.tar .*captions\.csv"):
        read_pairs(folder)
    written(folder / "captions.txt", "image,caption\nred.png,red\n")
    assert plain(read_pairs(folder)) == [("red.png", ("red",))]
    written(folder / "metadata.csv", "file_name,text\nred.png,red\n")
    with pytest.raises(TrainingError, match=r"captions\.txt and metadata\.csv: give the path of one"):
        read_pairs(folder)


def test_karpathys_splits_are_picked_by_name(folder: Path) -> None:
    path = written(folder / "dataset_flickr8k.json", json.dumps(KARPATHY))
    assert plain(read_pairs(path, split="train"))[0] == ("red.png", ("red.png one", "red.png two"))
    names = {
        split: [name for name, _ in plain(read_pairs(path, split=split))]
        for split in ("train", "dev", "validation", "train+test", "all")
    }
    assert names == {
        "train": NAMES[:2],
        "dev": ["blue.png"],
        "validation": ["blue.png"],
        "train+test": ["red.png", "green.png", "yellow.png"],
        "all": NAMES,
    }
    with pytest.raises(TrainingError, match=r'the splits train \(2\), val \(1\), test \(1\): name one, .* or "all"'):
        read_pairs(path)
    with pytest.raises(TrainingError, match=r"no split 'eval', only train \(2\), val"):
        read_pairs(path, split="eval")


def test_a_column_of_splits_is_used(folder: Path) -> None:
    path = written(folder / "a.csv", "image,caption,split\nred.png,r,train\nblue.png,b,val\nred.png,rr,train\n")
    assert plain(read_pairs(path, split="train")) == [("red.png", ("r", "rr"))]
    lines = written(folder / "a.jsonl", '{"image": "red.png", "caption": "r", "split": "train"}')
    assert plain(read_pairs(lines)) == plain(read_pairs(lines, split="train")) == [("red.png", ("r",))]


def test_a_split_may_be_a_file_of_image_names_beside_the_captions(folder: Path) -> None:
    tokens = written(folder / "Flickr8k.token.txt", "".join(f"{name}#0\t{name} .\n" for name in NAMES))
    written(folder / "Flickr_8k.trainImages.txt", "red.png\nyellow.png\n")
    written(folder / "Flickr_8k.devImages.txt", "blue.png\n")
    written(folder / "lists" / "mine.txt", "green\n")  # as Flickr30k's, without the suffix
    for split, names in {
        "train": ["red.png", "yellow.png"],
        "val": ["blue.png"],
        "Flickr_8k.devImages.txt": ["blue.png"],
        str(folder / "lists" / "mine.txt"): ["green.png"],
        "all": NAMES,
    }.items():
        assert [name for name, _ in plain(read_pairs(tokens, split=split))] == names
    with pytest.raises(TrainingError, match=r"one file such as Flickr_8k\.testImages\.txt in .* and found none"):
        read_pairs(tokens, split="test")
    written(folder / "test.txt", "red.png\nlost.png\n")
    with pytest.raises(TrainingError, match=r"test\.txt lists 1 images that have no caption .* such as 'lost\.png'"):
        read_pairs(tokens, split="test")


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_shards_give_images_that_are_read_from_the_tar_when_needed(tmp_path: Path) -> None:
    path = shard(
        tmp_path / "a.tar",
        [
            ("__meta__", b"of the whole shard"),
            ("set/000.png", png("red")),
            ("set/000.txt", b"a red one\n"),
            ("set/000.cls", b"3"),
            ("set/001.JSON", json.dumps({"caption": "blue", "url": None}).encode()),
            ("set/001.PNG", png("blue")),
            ("set/002.json", json.dumps({"captions": ["green", "all green"]}).encode()),
            ("set/002.png", png("green")),
            ("set/002.txt", b"green"),
            ("set/003.cls", b"a sample without image and text is another's"),
        ],
    )
    pairs = read_pairs(path)
    assert [pair.captions for pair in pairs] == [("a red one",), ("blue",), ("green", "all green")]
    assert [colour_of(pair) for pair in pairs] == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    assert len(pickle.dumps(pairs[0])) < 300 + len(str(path))
    assert pickle.loads(pickle.dumps(pairs[0])) == pairs[0]
    assert image_name(pairs[0].image, 0) == f"{path}: set/000.png"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(SourceError, match=r"a\.tar: set/001\.PNG: the shard ends \d+ bytes early"):
        image_input(pairs[1].image)
    path.unlink()
    with pytest.raises(SourceError, match=r"cannot read .*set/000\.png: No such file"):
        image_input(pairs[0].image)


def test_shards_that_the_webdataset_library_writes_are_read_from_a_folder_and_a_pattern(tmp_path: Path) -> None:
    import webdataset

    colours = ["red", "green", "blue", "yellow"]
    for number in range(2):
        with webdataset.TarWriter(str(tmp_path / f"shard-{number:03}.tar")) as sink:
            for colour in colours[2 * number : 2 * number + 2]:
                sink.write({"__key__": colour, "png": png(colour), "txt": f"a {colour} one"})
    found = read_pairs(tmp_path)
    assert found == read_pairs(str(tmp_path / "shard-{000..001}.tar"))
    assert [pair.captions for pair in found] == [(f"a {colour} one",) for colour in colours]
    assert [load_image(image_input(pair.image)).info.format for pair in found] == ["PNG"] * 4
    with pytest.raises(TrainingError, match=r"cannot read the shard .*shard-002\.tar: .*No such file"):
        read_pairs(str(tmp_path / "shard-{000..002}.tar"))
    with pytest.raises(ConfigError, match="holds its images itself"):
        read_pairs(tmp_path, images=tmp_path)
    with pytest.raises(ConfigError, match="shards have no splits: instead of split='train'"):
        read_pairs(tmp_path, split="train")


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([("1.png", b"x")], "sample '1' needs captions"),
        ([("1.txt", b"a")], "sample '1' has 0 images"),
        ([("1.left.png", b"x"), ("1.right.png", b"x"), ("1.txt", b"a")], r"has 2 images, 1\.left\.png, 1\.right\.png"),
        ([("1.png", b"x"), ("2.png", b"x"), ("1.txt", b"a")], "sample '2' needs captions"),
        ([("1.png", b"x"), ("1.json", b"{")], r"sample '1' \.json is not JSON"),
        ([("1.png", b"x"), ("1.json", b'{"caption": 3}')], r"sample '1' \.json holds captions that are no texts"),
        ([("1.png", b"x"), ("1.txt", b"\xff")], r"sample '1' \.txt is not UTF-8"),
        ([("1.png", b"x"), ("1.png", b"x")], "duplicate file name"),
        ([], "holds no pairs"),
    ],
)
def test_a_mistake_in_a_shard_is_named_with_its_sample(
    tmp_path: Path, members: list[tuple[str, bytes]], complaint: str
) -> None:
    path = shard(tmp_path / "bad.tar", members)
    with pytest.raises(TrainingError, match=complaint) as caught:
        read_pairs(path)
    assert str(path) in str(caught.value)


def test_a_shard_that_is_cut_off_or_compressed_is_refused(tmp_path: Path) -> None:
    whole = shard(tmp_path / "a.tar", [("1.txt", b"red"), ("1.png", png("red"))])
    whole.write_bytes(whole.read_bytes()[:1600])
    with pytest.raises(TrainingError, match=r"cannot read the shard .*a\.tar: unexpected end of data"):
        read_pairs(whole)
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz"):
        pass
    with pytest.raises(TrainingError, match="unpack it first"):
        read_pairs(tmp_path / "b.tar.gz")


def test_a_shard_without_its_end_or_with_a_link_for_an_image_is_refused(tmp_path: Path) -> None:
    files = [("1.txt", b"red"), ("1.png", png("red")), ("2.txt", b"blue"), ("2.png", png("blue"))]
    whole = shard(tmp_path / "a.tar", files).read_bytes()
    half = len(shard(tmp_path / "half.tar", files[:2]).read_bytes().rstrip(b"\0")) // 512 * 512 + 512
    (tmp_path / "cut.tar").write_bytes(whole[:half])
    with pytest.raises(TrainingError, match=r"cannot read the shard .*cut\.tar: .*without the mark of its end"):
        read_pairs(tmp_path / "cut.tar")
    (tmp_path / "damaged.tar").write_bytes(whole[:half] + b"?" * 512 + whole[half + 512 :])
    with pytest.raises(TrainingError, match=r"cannot read the shard .*damaged\.tar: the header at byte \d+ is damaged"):
        read_pairs(tmp_path / "damaged.tar")
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        member = tarfile.TarInfo("1.png")
        member.type, member.linkname = tarfile.LNKTYPE, "0.png"
        tar.addfile(member)
    with pytest.raises(TrainingError, match=r"link\.tar: 1\.png is a hard link to '0\.png'; pack the archive"):
        read_pairs(tmp_path / "link.tar")


def test_an_image_that_is_null_is_looked_for_under_the_next_name(folder: Path) -> None:
    row = '{"image": null, "File_Name": "red.png", "captions": "", "Text": "a red one"}'
    assert plain(read_pairs(written(folder / "a.jsonl", row))) == [("red.png", ("a red one",))]


def test_a_name_that_stands_twice_in_a_header_is_refused(folder: Path) -> None:
    with pytest.raises(TrainingError, match=r"a\.csv is no table, there are several columns 'id'"):
        read_pairs(written(folder / "a.csv", "image,caption,id,id\nred.png,red,1,2\n"))


def saved_dataset(folder: Path) -> Path:
    from datasets import Dataset, DatasetDict, Features, Image, List, Value

    features = Features({"id": Value("int64"), "image": Image(), "sentences": List(Value("string"))})

    def rows(*colours: str) -> Dataset:
        return Dataset.from_dict(
            {
                "id": list(range(len(colours))),
                "image": [{"bytes": png(colour), "path": None} for colour in colours],
                "sentences": [[f"a {colour} one", " "] for colour in colours],
            },
            features=features,
        )

    DatasetDict({"train": rows("red", "green", "blue"), "test": rows("yellow")}).save_to_disk(str(folder))
    return folder


def test_a_saved_hugging_face_data_set_gives_images_that_are_read_when_needed(tmp_path: Path) -> None:
    path = saved_dataset(tmp_path / "saved")
    pairs = read_pairs(path, split="train")
    assert [pair.captions for pair in pairs] == [("a red one",), ("a green one",), ("a blue one",)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(colour_of, pairs)) == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert pickle.loads(pickle.dumps(pairs)) == pairs
    assert image_name(pairs[2].image, 9) == f"{path / 'train'} row 2"
    assert [len(read_pairs(path, split=split)) for split in ("test", "all")] == [1, 4]
    assert read_pairs(path / "train") == pairs
    with pytest.raises(TrainingError, match=r"the splits train \(3\), test \(1\): name one"):
        read_pairs(path)
    with pytest.raises(TrainingError, match="one Dataset without splits"):
        read_pairs(path / "train", split="train")


def test_a_saved_data_set_may_hold_paths_bytes_and_sentences_as_objects(folder: Path) -> None:
    from datasets import Dataset, Image

    paths = [str(folder / name) for name in NAMES[:2]]
    raw = [[{"raw": "one"}, {"raw": "two"}]] * 2
    by_path = Dataset.from_dict({"filepath": paths, "sentences": raw})
    linked = by_path.cast_column("filepath", Image())
    held = Dataset.from_dict({"image": [png("red"), png("green")], "text": ["one", "two"]})
    for name, dataset in {"paths": by_path, "linked": linked, "held": held}.items():
        dataset.save_to_disk(str(folder / name))
        assert [colour_of(pair) for pair in read_pairs(folder / name)] == [(255, 0, 0), (0, 255, 0)]
    assert read_pairs(folder / "paths")[1] == Pair(folder / NAMES[1], ("one", "two"))
    assert read_pairs(folder / "linked")[0].captions == ("one", "two")


def test_a_saved_data_set_that_does_not_fit_is_refused_with_its_columns(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"img": [1], "text": ["one"]}).save_to_disk(str(tmp_path / "numbers"))
    with pytest.raises(TrainingError, match="the column 'img' is int64, and needs to be an Image"):
        read_pairs(tmp_path / "numbers")
    Dataset.from_dict({"img": ["a.png"], "label": [1]}).save_to_disk(str(tmp_path / "labels"))
    with pytest.raises(TrainingError, match="has the columns img, label, and needs an image"):
        read_pairs(tmp_path / "labels")
    Dataset.from_dict({"img": ["a.png", "b.png"], "text": ["one", ""]}).save_to_disk(str(tmp_path / "empty"))
    with pytest.raises(TrainingError, match="empty row 1 needs captions"):
        read_pairs(tmp_path / "empty")
    for file in (tmp_path / "empty").glob("*.arrow"):
        file.unlink()
    with pytest.raises(TrainingError, match="is no data set that save_to_disk wrote whole"):
        read_pairs(tmp_path / "empty")


def test_a_missing_library_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved_dataset(tmp_path / "s")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"needs datasets: pip install 'clip-qdrant\[train\]'"):
        read_pairs(path, split="train")


def test_shards_are_read_without_the_webdataset_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("webdataset", "webdataset.shardlists", "webdataset.tariterators"):
        monkeypatch.setitem(sys.modules, module, None)
    [pair] = read_pairs(shard(tmp_path / "s.tar", [("1.png", png("red")), ("1.txt", b"red")]))
    assert (pair.captions, colour_of(pair)) == (("red",), (255, 0, 0))


def test_objects_in_memory_are_pairs_too(folder: Path) -> None:
    picture = solid_image("red")
    pairs = as_pairs([(picture, " one "), {"image": "a.png", "caption": "b"}, Pair(b"x", ("c",))])
    assert [pair.captions for pair in pairs] == [("one",), ("b",), ("c",)]
    assert [image_name(pair.image, 4) for pair in pairs] == ["the image of pair 4", "a.png", "the image of pair 4"]
    assert image_input(picture) is picture
    with pytest.raises(TrainingError, match="pair 0 has no image"):
        as_pairs([{"caption": "b"}])
    with pytest.raises(TrainingError, match="pair 1 needs captions"):
        as_pairs([("a.png", "a"), ("b.png", [])])


def numbered(n: int, start: int = 0) -> list[Pair]:
    return [Pair(f"{number}.png", (f"number {number}",)) for number in range(start, start + n)]


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    weights=st.lists(st.sampled_from([0.1, 0.29, 1 / 3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.2]), min_size=3, max_size=3),
    epochs=st.integers(1, 12),
)
def test_a_pair_is_seen_as_often_as_its_weight_says(sizes: list[int], weights: list[float], epochs: int) -> None:
    mixture = Mixture([Part(numbered(20)), *(Part(numbered(n), w) for n, w in zip(sizes, weights, strict=False))])
    seen: Counter[int] = Counter()
    for epoch in range(epochs):
        chosen = mixture.epoch(7, epoch)
        assert len(chosen) == mixture.size(epoch)
        seen.update(chosen)
    first = 0
    for part in mixture.parts:
        counts = [seen[index] for index in range(first, first + len(part.pairs))]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == pytest.approx(epochs * part.weight * len(part.pairs), abs=1.001)
        first += len(part.pairs)


def test_half_a_weight_shows_all_pairs_once_in_two_epochs_and_two_show_them_twice_in_one() -> None:
    mixture = Mixture([Part(numbered(9), 0.5, "half"), Part(numbered(4), 2.0)])
    one, two = mixture.epoch(0, 0), mixture.epoch(0, 1)
    assert sorted(index for index in one + two if index < 9) == list(range(9))
    assert sorted(index for index in one if index >= 9) == sorted([9, 10, 11, 12] * 2)
    assert [mixture.pairs[index] for index in (0, 9)] == [numbered(1)[0]] * 2


def test_the_order_of_an_epoch_depends_on_seed_and_number_alone() -> None:
    mixture = Mixture([Part(numbered(50)), Part(numbered(50), 0.5)])
    orders = {(seed, epoch): tuple(mixture.epoch(seed, epoch)) for seed in (0, 1, -1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 6
    # Golden: a run is resumed by another process, maybe on another machine.
    assert Mixture([Part(numbered(6)), Part(numbered(6), 0.5)]).epoch(1, 1) == [1, 4, 9, 2, 11, 6, 3, 0, 5]


@pytest.mark.parametrize(
    ("sizes", "share", "count"),
    [
        ((600,), 0.1, 60),
        ((60,), 0.1, 20),
        ((30,), 0.1, 10),
        ((6,), 0.1, 2),
        ((5,), 0.1, 0),
        ((60,), 0.0, 0),
        ((12_000,), 0.1, 1000),
        ((300, 100), 0.1, 40),
        ((590, 1), 0.1, 59),
    ],
)
def test_a_part_of_a_mixture_is_held_out_the_same_for_the_same_seed(
    sizes: tuple[int, ...], share: float, count: int
) -> None:
    parts = [
        Part([Pair(f"{name}/{number}.jpg", ("a", "b")) for number in range(size)], 2.0, name)
        for name, size in zip("xy", sizes, strict=False)
    ]
    mixture = Mixture(parts)
    kept, held = mixture.hold_out(share, seed=3)
    assert len(held) == count
    assert sorted(str(pair.image) for pair in (*kept.pairs, *held)) == sorted(str(p.image) for p in mixture.pairs)
    assert [(part.weight, part.name) for part in kept.parts] == [(2.0, part.name) for part in parts]
    assert mixture.hold_out(share, seed=3)[1] == held
    if count:
        assert mixture.hold_out(share, seed=4)[1] != held


def test_a_mixture_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one part"):
        Mixture([])
    with pytest.raises(TrainingError, match="photos of the mixture has no pairs"):
        Mixture([Part([], name="photos")])
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="the weight of part 0 is"):
            Mixture([Part(numbered(2), weight)])
    with pytest.raises(ConfigError, match=r"the weights 0\.1 leave epochs without a pair"):
        Mixture([Part(numbered(2), 0.1)])


def test_pairs_of_one_image_share_a_key_whatever_names_it(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder / "red.png")
    tar = shard(folder / "a.tar", [("1.png", png("red")), ("1.txt", b"red"), ("2.png", png("red")), ("2.txt", b"red")])
    array = np.zeros((4, 4, 3), np.uint8)
    images = [
        folder / "red.png",
        str(folder / "x" / ".." / "red.png"),
        (folder / "red.png").as_uri(),
        folder / "link.png",
        folder / "blue.png",
        b"bytes",
        bytearray(b"bytes"),
        array,
        array.copy(),
        array.reshape(2, 8, 3),
        solid_image("red"),
        solid_image("red"),
        solid_image("blue"),
        *(pair.image for pair in read_pairs(tar) + read_pairs(tar)),
    ]
    keys = pair_keys([Pair(image, ("a",)) for image in images])
    assert keys.dtype == np.int64
    assert keys.tolist() == [0, 0, 0, 0, 1, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8, 7, 8]


def test_hashes_of_the_contents_join_copies_under_other_names() -> None:
    pairs = [Pair(name, ("a",)) for name in ("a.png", "b.png", "c.png", "a.png")]
    assert pair_keys(pairs, hashes={0: "same", 1: "same"}).tolist() == [0, 0, 1, 0]
    assert pair_keys([]).tolist() == []


@given(st.text())
def test_a_caption_key_does_not_change_when_it_is_made_again(text: str) -> None:
    key = caption_key(text)
    assert caption_key(key) == key
    assert bool(key) == bool(text.strip())


def test_caption_keys_ignore_case_space_and_punctuation_only() -> None:
    assert len({caption_key(text) for text in ("A dog, running .", "a dog running", "  a DOG\trunning!")}) == 1
    assert caption_key("Stra\u00dfe") == caption_key("STRASSE")
    assert (
        len({caption_key(text) for text in ("a dog", "a dogs", "c++", "c", "?", "!", "\U0001f600", "\U0001f431")}) == 8
    )


def test_the_docs_name_every_column_and_every_folder_that_is_looked_for() -> None:
    from clip_qdrant.tables import columns
    from clip_qdrant_training.data.formats import entries

    page = (Path(__file__).parents[2] / "docs" / "training-data.md").read_text(encoding="utf-8")
    for name in (*columns.FILE_COLUMNS, *columns.CAPTION_COLUMNS, *entries._FOLDERS):
        assert f"`{name}`" in page
