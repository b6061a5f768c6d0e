"""Command lines that no one can mean: every command by every option and what may be wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

HUGE, JUNK = str(10**30), "\udcff\x1b[31m[/x]\u2028"
ROW = "methods: [{name: base}]\n"
# Option: values that are wrong for it. FIFO, FOLDER, FILE and YAML are made by `places`.
NUMBER = ["", "x", "nan", HUGE, JUNK, "-1"]
WHOLE = [*NUMBER, "0", "1.5"]
OUT = ["FILE", "FIFO", "/dev/null", "FILE/x", "/proc/x"]
NOT_YAML = ["nowhere.yaml", "FIFO", "/dev/null", "FOLDER", "BROKEN", "TWICE", "LIST", "EMPTY", "UTF16", "NAN"]
OPTIONS: dict[tuple[str, ...], dict[str, list[str]]] = {
    ("generate", "a red star"): {
        "--out": OUT,
        "--model": ["", "nope", "FILE", "FIFO", "FOLDER", JUNK],
        "--adapter": ["nope", "FILE", "FOLDER", JUNK],
        "--tau": ["", "x", "nan", "-1", JUNK, "0", "inf"],
        "--rho": [*NUMBER, "2"],
        "--order": [*WHOLE, "9"],
        "--policy": ["", "nope", "[1]", "{", "{kind: fixed}", "{kind: fixed, scale: true}", "{a: 1, a: 2}",
                     "{kind: fixed, scale: 2, scael: 2}", "{kind: explicit, scales: [1, 2]}", "3",
                     "{kind: region, tau: .nan}",
                     "!!python/name:os.system x", "[" * 5000, JUNK],
        "--steps": WHOLE,
        "--side": [*WHOLE, "7", "65"],
        "--frames": WHOLE,
        "--guidance": [*NUMBER, "inf"],
        "--seed": ["", "x", "1.5", JUNK],
        "--file": ["PROMPTS"],
        "--nope": ["1"],
    },
    ("generate",): {"--file": ["", "nowhere.txt", "/dev/null", "FOLDER", "EMPTY", "UTF16", "FIFO", JUNK]},
    ("train",): {"": [*NOT_YAML, "OUT_FILE", "LR", "YAML", "BEGIN", "SOURCE", ""]},
    ("run",): {"": [*NOT_YAML, "DOTS", ""]},
    ("evaluate",): {"": [*NOT_YAML, "nowhere", "FILE", ""]},
    ("evaluate", "PICTURES"): {
        "": ["nowhere", "FIFO", "FILE", "EMPTY_FOLDER", "world:x", JUNK, ""],
        "--prompts": ["nowhere.txt", "FOLDER", "/dev/null", "FIFO", "UTF16", JUNK],
        "--metric": ["nope", "", JUNK],
        "--network": ["nope", "", JUNK],
        "--out": ["FOLDER", "FIFO", "/dev/null", "FILE/x"],
    },
    ("evaluate", "YAML"): {
        "": ["PICTURES"], "--metric": ["psnr"], "--network": ["reader"], "--out": ["x.json"],
        "--cache": ["x"],
        "--prompts": ["PROMPTS"], "--runs": ["nowhere", "FILE"], "--results": ["FILE", "FIFO", "/dev/null"],
    },
    ("time",): {"": NOT_YAML},
    ("time", "YAML"): {"--results": ["FILE", "FIFO", "/dev/null"], "--nope": ["1"]},
    ("run", "YAML"): {"--workers": [*WHOLE, "1000000"], "--runs": ["FILE", "FIFO", "/dev/null"]},
    ("study",): {"": NOT_YAML},
    ("study", "YAML"): {
        "--workers": WHOLE, "--results": ["FILE", "FIFO", "/dev/null"], "--state": ["FILE", "FIFO"],
        "--storage": ["nope", "nope://u:p@h/d", "postgresql://u:p@:x/d", "FOLDER", JUNK],
    },
    ("track",): {"": NOT_YAML},
    ("track", "YAML"): {"--runs": ["FILE"], "--results": ["nowhere", "FILE"], "": ["nowhere.yaml"]},
    ("report",): {"": NOT_YAML},
    ("report", "YAML"): {"--workers": WHOLE, "--results": ["nowhere", "FILE"], "": ["nowhere.yaml"]},
    ("export",): {"": NOT_YAML},
    ("export", "YAML", "base", "x"): {"--layout": ["nope", "", JUNK], "--runs": ["nowhere", "FILE"]},
    ("export", "YAML", "nope"): {"": ["x"]},
    ("calibrate",): {
        "--model": ["", "nope", "FOLDER", JUNK], "--adapter": ["nope", "FOLDER", JUNK],
        "--prompts": [*WHOLE, "1"],
        "--file": ["nowhere", "FOLDER", "EMPTY"], "--steps": WHOLE, "--side": [*WHOLE, "7", "65"],
        "--every": WHOLE, "--batch": WHOLE, "--out": OUT, "--state": ["FILE", "FIFO", "/dev/null"],
    },
    ("oracle",): {"": NOT_YAML},
    ("oracle", "YAML"): {"--workers": WHOLE, "--results": ["FILE", "FIFO"], "--state": ["FILE", "FIFO"]},
    ("models",): {"": ["x"], "--nope": ["1"]},
    ("metrics",): {"": ["x"], "--nope": ["1"]},
    ("nope",): {"": [""]},
}  # fmt: skip
ALONE = [["nope"], ["generate"], ["train"], ["run"], ["evaluate"], ["export"], ["export", "x", "y"],
         ["generate", "a star", "--tau", "1", "--policy", "{kind: fixed, scale: 2}"], ["generate", "a", "b"],
         ["generate", "a star", "--order", "2", "--policy", "budget"], ["generate", "  "]]  # fmt: skip


def bad_lines() -> Iterator[list[str]]:
    """Each with its words; names in capitals stand for what `places` makes."""
    yield from ALONE
    for words, options in OPTIONS.items():
        for option, values in options.items():
            if option:
                yield [*words, option]
            for value in values:
                yield [*words, *filter(None, [option]), value]


def places(folder: Path) -> dict[str, str]:
    """Files and folders that are not what a command wants, by their names above."""
    texts = {
        "FILE": "x", "EMPTY": "", "PROMPTS": "a red star\n", "LIST": "- 1\n",
        "TWICE": ROW + ROW, "BROKEN": "a: [1\n",
        "NAN": ROW + "guidance_scale: .nan\n", "DOTS": ROW + "profile: ..\n",
        "YAML": ROW + "prompts: {source: world, count: 1}\n",
        "OUT_FILE": f"model: mini-flux\nout: {folder / 'FILE.yaml'}\n",
        "LR": "model: mini-flux\nout: o\nlr: .inf\n",
        "BEGIN": "model: mini-flux\nout: o\nbegin: nowhere\n",
        "SOURCE": "model: mini-flux\nout: o\nsource: {kind: folder, path: nowhere}\n",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "UTF16.yaml").write_bytes(ROW.encode("utf-16"))
    os.mkfifo(folder / "FIFO.yaml")
    for name in ("FOLDER", "EMPTY_FOLDER", "PICTURES"):
        (folder / f"{name}.yaml").mkdir()
    made = {path.stem: str(path) for path in folder.iterdir()}
    (folder / "PICTURES.yaml").rename(folder / "PICTURES")
    return made | {"PICTURES": str(folder / "PICTURES")}
