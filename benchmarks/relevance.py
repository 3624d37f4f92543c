"""How well the cut-off of `min_relevance="auto"` tells matches from the rest: prints a table.

    python benchmarks/relevance.py DATA [--model bundled]

"kept" is the share of the images among the first ten that their query is true of which are at least as relevant as the
cut-off: of a caption its own image, of a word those with it in a caption. "empty" is the share of queries about things
that are not there for which nothing is. The photographs are the second half of the Flickr8k dev split: neither the
weights nor their calibration have seen them. The clip art is the openclipart dev split.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from clip_qdrant import ClipEmbedder
from clip_qdrant.calibration.curves import Calibration, measure_calibration
from clip_qdrant.calibration.improbable_texts import IMPROBABLE_TEXTS
from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant_training import read_pairs
from clip_qdrant_training.data.read import Pair, image_input
from clip_qdrant_training.evaluation.recall import owners

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


# What people ask for in one word: what some of the photographs show, and what none does.
SHOWN = """dog beach snow ball water bicycle horse boat wave skateboard mountain soccer football basketball baseball
pool tree grass car motorcycle girl boy woman crowd street rock tent bird frisbee tennis"""
NOT_SHOWN = """abacus metronome bassoon photosynthesis pyramid volcano octopus giraffe kangaroo sushi x-ray spreadsheet
microscope typewriter gramophone lighthouse submarine telescope galaxy cactus scorpion jellyfish walrus mosque turbine
skyscraper passport barcode fossil mummy oysters truffle dialysis dentures periscope torpedo stalactite platypus"""


def kept_and_empty(
    calibration: Calibration, images: np.ndarray, texts: np.ndarray, right: np.ndarray, nonsense: np.ndarray
) -> tuple[float, float]:
    """Percent of true matches in the top ten that stay, and of queries about nothing that come back empty.

    `right` (texts, images) says which images a text is true of.
    """
    cut = calibration.score(calibration.cutoff)
    scores = texts @ images.T
    tenth = np.sort(scores, axis=1)[:, -TOP, None]
    found = scores[right & (scores >= tenth)]
    best = (nonsense @ images.T).max(axis=1)
    return 100 * float((found >= cut).mean()), 100 * float((best < cut).mean())


def captions_of(pairs: Sequence[Pair]) -> tuple[list[str], np.ndarray]:
    captions = [caption for pair in pairs for caption in pair.captions]
    right = np.zeros((len(captions), len(pairs)), bool)
    right[np.arange(len(captions)), owners(list(pairs))] = True
    return captions, right


def words_of(pairs: Sequence[Pair]) -> tuple[list[str], np.ndarray]:
    words = SHOWN.split()
    said = [set(re.findall(r"[a-z]+", " ".join(pair.captions).lower())) for pair in pairs]
    return words, np.array([[bool({word, f"{word}s"} & each) for each in said] for word in words])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="bundled")
    arguments = parser.parse_args()
    embedder = ClipEmbedder.load(arguments.model)
    improbable = embed_query_texts(IMPROBABLE_TEXTS, embedder, unit=False)
    photographs = read_pairs(arguments.data / "flickr8k" / "dev.jsonl")[HALF:]
    drawings = read_pairs(arguments.data / "openclipart" / "dev.jsonl")
    table = Table("images", "queries", "calibrated by", "cut-off", "cosine", "kept %", "empty %")
    for name, pairs, queries, (texts, right), lines in (
        ("photographs", photographs, "captions", captions_of(photographs), NOT_IN_PHOTOGRAPHS.splitlines()),
        ("photographs", photographs, "words", words_of(photographs), NOT_SHOWN.split()),
        ("clip art", drawings, "captions", captions_of(drawings), NOT_IN_CLIP_ART.splitlines()),
    ):
        images = embedder.embed_images(image_input(pair.image) for pair in pairs)
        vectors, nonsense = (embed_query_texts(each, embedder, unit=False) for each in (texts, lines))
        by_collection = measure_calibration(images, improbable, improbable=improbable)
        for by, calibration in (("the checkpoint", embedder.calibration), ("the images alone", by_collection)):
            if calibration is None:
                continue
            kept, empty = kept_and_empty(calibration, images, vectors, right, nonsense)
            cut = calibration.cutoff
            cells = (f"{cut:.4f}", f"{calibration.score(cut):.3f}", f"{kept:.1f}", f"{empty:.1f}")
            table.add_row(name, queries, by, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
