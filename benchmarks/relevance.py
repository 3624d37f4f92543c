"""How well the cut-off of `min_relevance="auto"` tells matches from the rest: prints a table.

    python benchmarks/relevance.py DATA [--model bundled]

"kept" is the share of captions whose own image is among the first ten and at least as relevant as the cut-off. "empty"
is the share of queries about things that are not there for which nothing is. The photographs are the second half of the
Flickr8k dev split: neither the weights nor their calibration have seen them. The clip art is the openclipart dev split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from clip_qdrant import ClipEmbedder
from clip_qdrant.calibration.curves import Calibration, measure_calibration
from clip_qdrant.calibration.improbable_texts import IMPROBABLE_TEXTS
from clip_qdrant_training import read_pairs
from clip_qdrant_training.evaluation.recall import embed_pairs, owners

HALF = 500
TOP = 10
# What is neither in photographs of people and dogs outdoors, nor ...
NOT_IN_PHOTOGRAPHS = """\
an MRI scan of a brain
a page of sheet music
the rings of Saturn
a spreadsheet with quarterly figures
a nuclear power plant
a microscope slide of bacteria
a medieval suit of armour in a museum
the surface of Mars
a passport photo page
a wedding cake with three tiers
a circuit board with microchips
a map of the London underground
a blue whale under water
a penguin colony in Antarctica
a giraffe eating leaves
a sushi platter
an espresso machine
a kitchen sink full of dishes
a bathroom with a shower
a bookshelf full of old books
a grand piano on a stage
an X-ray of a broken wrist
a stained glass window in a cathedral
a chess board
a bowl of tomato soup
the cockpit of an airliner
an oil painting of a king
a screenshot of a text editor
a receipt from a supermarket
a barcode
a wind turbine
a satellite dish
a cactus in a pot
a kangaroo with a joey
an octopus
a jellyfish in an aquarium
a spider web
a scorpion
an elephant drinking
a panda eating bamboo
a tiger in the jungle
a microwave oven
a washing machine
a sewing machine
a typewriter
a sculpture of a Greek god
pyramids in Egypt
the Taj Mahal
a skyscraper under construction with cranes
a submarine
a space shuttle launch
a hot air balloon festival
a container ship in a harbour
a lighthouse in a storm
a volcano erupting
the northern lights
a lightning strike
a tornado
a galaxy
a solar eclipse
a tax form
a weather map
a bar chart
a company logo
a diagram of the water cycle
a crossword puzzle
a chemistry laboratory
a dentist's chair
an operating theatre
a courtroom
an empty office with desks
a parliament session
a printing press
a coal mine
an oil rig
a steel mill
a server rack in a data centre
a pocket watch
a diamond ring
a perfume bottle
a bottle of wine with cheese
a loaf of bread on a board
a basket of eggs
a plate of spaghetti
a pineapple
a bunch of bananas
a mushroom in moss
a rose bouquet in a vase
a bonsai tree
an owl at night
a peacock with open feathers
a swarm of bees
a snake skin
a crocodile
a polar bear
a fossil of a dinosaur
an Egyptian mummy
a samurai sword
a coin collection
a postage stamp
quarterly revenue forecast
asdf qwer zxcv
photosynthesis
the square root of two
contract law
inflation rate of 1923
lorem ipsum dolor sit amet
HTTP status code 404
the smell of rain
tomorrow's stock prices"""
# ... what is not in clip art.
NOT_IN_CLIP_ART = """\
a crowded beach in summer
a child being pushed on a swing
two dogs running through the snow
a girl doing a cartwheel on the lawn
people waiting at a bus stop
a wedding party in front of a church
a rock band playing live at night
a surfer inside a breaking wave
a rally car throwing up mud
a baby sleeping in a pram
a crowd at a football stadium
a man with a beard smoking in the street
a kayaker in white water
a climber on a steep rock face
a woman in a red dress on a balcony
an MRI scan of a brain
a page of a phone book
the rings of Saturn
a spreadsheet with quarterly figures
a nuclear power plant
a microscope slide of bacteria
the surface of Mars
a passport photo page
a blurry photo of a living room
a selfie in a bathroom mirror
a plate of sushi with chopsticks
a waterfall in a rain forest
an open plan office with many desks
a bathroom with a shower
the cockpit of an airliner
an oil painting of a king
a screenshot of a text editor
a receipt from a supermarket
a jellyfish in an aquarium
a volcano erupting at night
the northern lights over a lake
a tax form
a weather map of Europe
a diagram of the water cycle
a courtroom with a jury
a parliament session
a coal mine
an oil rig
a server rack in a data centre
a diamond ring
a fossil of a dinosaur
a galaxy in deep space
a solar eclipse
a chess tournament
a sewing machine
a kangaroo with a joey
an octopus
a spider web with dew
a plate of spaghetti
a swimming pool with lanes
a skier jumping off a cliff
a subway station
a skyscraper at night
a marathon
a graduation ceremony
quarterly revenue forecast
asdf qwer zxcv
photosynthesis
the square root of two
contract law
inflation rate of 1923
lorem ipsum dolor sit amet
HTTP status code 404
the smell of rain
tomorrow's stock prices"""


def kept_and_empty(
    calibration: Calibration, images: np.ndarray, texts: np.ndarray, own: np.ndarray, nonsense: np.ndarray
) -> tuple[float, float]:
    """Percent of true matches in the top ten that stay, and of queries about nothing that come back empty."""
    cut = calibration.score(calibration.cutoff)
    scores = texts @ images.T
    mine = scores[np.arange(len(own)), own]
    found = (scores > mine[:, None]).sum(axis=1) < TOP
    best = (nonsense @ images.T).max(axis=1)
    return 100 * float((mine[found] >= cut).mean()), 100 * float((best < cut).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="bundled")
    arguments = parser.parse_args()
    embedder = ClipEmbedder.load(arguments.model)
    improbable = embedder.embed_texts(IMPROBABLE_TEXTS)
    table = Table("images", "calibrated by", "cut-off", "cosine", "kept %", "empty %")
    for name, split, first, lines in (
        ("photographs", "flickr8k", HALF, NOT_IN_PHOTOGRAPHS),
        ("clip art", "openclipart", 0, NOT_IN_CLIP_ART),
    ):
        pairs = read_pairs(arguments.data / split / "dev.jsonl")[first:]
        images, texts = embed_pairs(embedder, pairs)
        own, nonsense = np.asarray(owners(pairs)), embedder.embed_texts(lines.splitlines())
        by_collection = measure_calibration(images, improbable, improbable=improbable)
        for by, calibration in (("the checkpoint", embedder.calibration), ("the images alone", by_collection)):
            if calibration is None:
                continue
            kept, empty = kept_and_empty(calibration, images, texts, own, nonsense)
            cut = calibration.cutoff
            table.add_row(name, by, f"{cut:.4f}", f"{calibration.score(cut):.3f}", f"{kept:.1f}", f"{empty:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
