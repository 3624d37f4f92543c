"""Makes content/gallery from the dev split of the Open Clip Art data: copies the images kept, writes metadata.jsonl.

    python training/recipes/gallery.py DATA/openclipart content/gallery

The same input gives the same files. Selection is by hand, as the list of what is left out: near copies within a series
(flags, LEDs, signal flags, patterns, icons), outlines nobody could name, pictures white on white, weapons, trademarks,
and titles that are only a person's address. Titles and keywords are those of the artists; keywords that say nothing
about the picture (export debris such as "hash(0x866e640)", the name of an artist) are left out.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

_NAMES = """
three_eyes_01 baby_tux_01 ralf_ark.in-berlin.de_ra_01 city_horizon_jon_phillip_01 glass_buttons_lumen_desi_01
alcatel_oxo_nicolas_cle_ pda_toh_yen_cheng_01 ras_nicolas_clementz_ switch_cisco_nicola2
arrow-left-seagreen_benj_01 arrow-up-green_benji_par_01 button-yellow_benji_park_01 pacman_yet_another__paul_01
tetris_01 workstation_01 button2_fudriot_omic.ch_01 clip_of_new_file_01 gentoo-terminal-inkscape_01
hotel_icon_air_conditio_01 hotel_icon_collection_i_02 hotel_icon_in_room_bagg_01 hotel_icon_in_room_emai_01
hotel_icon_money_exchan_01 hotel_icon_squash_gerald_01 otto_01 save_cedric_bosdonnat_01 quake_3_icon_01
mozilla_mail mo_unmount zip_external_mount diamante_illuminati_ingo_ left_top_corner_tribal_b_
right_bottom_corner_tri_ sunwheel_vikingdread_01 filmphoto2_fudriot_omic._01 cone2_bw_ganson cone_alt2_bw
glace_03_bw_jean-victor__01 lime_half_jarno_vasamaa_ straw_tote_linda_kim_01 asturias_01 cantabria_01
castilla_y_leon_01 europe_francesco_rolland_ extremadura_01 galicia_01 map_of_sweden_jarno_vasa_01 g8_muji_01
carta_architetto_frances_01 note_with_pin_nicu_bucul_03 paperface2 a_happy_boy_01 jazz_enrique_meza_c_01
pregnancy_silhouet_mo_02 silhouette_male_1 stylized_yoga_person_ger_06 pantyhose_rollandin_fra4
air_stefan_bazelkov_01 blueman_201_01 sand_castle_nathan_hawke_01 arrow3-2-1 _italy__lauris_kaplinski_01
denmark_jutland no_smoking_sign_domas_jo_01 package_handling_symbol_01 pitcairn_islands
probability_from_0.0_to_01 sung_-_chinese_taichi_m_01 copileftcommies_flag_nic_01 signalflag_6 signalflag_8
signalflag_echo signalflag_tango signalflag_victor gambia sao_tome_and_principe western_sahara aruba haiti
canada_newfoundland canada_ontario usa_rhode_island tibet isle_of_man russian_federation finland_aaland
france_limousin_alternate france_martinique france_midi_pyrenee france_provence germany_bremen
norwegian_union_flag_fed_01 city_flag_of_gijon_ast_r uk_orkney vietnam_historic who semaphore_foxtrot
semaphore_positions semaphore_romeo semaphore_victor semaphore_whiskey led_circle_yellow
led_rectangular_h_orange led_rectangular_v_grey led_rectangular_v_yellow led_rounded_h_green led_rounded_v_grey
led_square_grey led_triangular_1_grey cd_jacket_template_james_01 pattern-arrow-heads-1 pattern-deltoids-1
pattern-dots-square-grid-05 pattern-square-and-diamonds-1 pattern-triangle-squares-1 pattern-warning-3
bucket_michael_moore_ 9_mm_gun_01 bullet_hole_linda_kim_t nws_government_website__01 angel_01
badminton_racket_brice_b_01 mr_lakshman_poonyth_ ms_01 quit_fabien_omic.ch_01 splatter_linda_kim_r x_simbol_01
"""
LEFT_OUT = frozenset(_NAMES.split())
_DEBRIS = re.compile(r"hash|(hash\()?0x[0-9a-f]+\)?|\d+|unsorted|architetto .*", re.IGNORECASE)


def entry(row: dict[str, Any]) -> dict[str, Any]:
    """The line of metadata.jsonl for a row of the data."""
    category, _, subcategory = row["category"].partition("/")
    tags = [tag for tag in dict.fromkeys(row["keywords"]) if not _DEBRIS.fullmatch(tag)]
    line = {
        "file_name": Path(row["image"]).name,
        "caption": html.unescape(row["title"]),
        "category": category,
        "subcategory": subcategory,
        "tags": tags,
    }
    return {name: value for name, value in line.items() if value}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample gallery from the Open Clip Art data.")
    parser.add_argument("data", type=Path, help="folder with dev.jsonl and images/")
    parser.add_argument("gallery", type=Path, help="folder to write")
    arguments = parser.parse_args()
    lines = (arguments.data / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda row: str(row["image"]))
    unknown = LEFT_OUT - {Path(row["image"]).stem for row in rows}
    if unknown:
        parser.error(f"the data has no images of these names: {', '.join(sorted(unknown))}")
    kept = [row for row in rows if Path(row["image"]).stem not in LEFT_OUT]
    arguments.gallery.mkdir(parents=True, exist_ok=True)
    for old in arguments.gallery.glob("*.webp"):
        old.unlink()
    for row in kept:
        shutil.copyfile(arguments.data / row["image"], arguments.gallery / Path(row["image"]).name)
    with (arguments.gallery / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(entry(row), ensure_ascii=False) + "\n" for row in kept)


if __name__ == "__main__":
    main()
