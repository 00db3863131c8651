"""What a folder holds beside its weights: preprocessor_config.json, and the tokeniser's files. They are the source's
where it has them; else they follow from open_clip's preprocess_cfg, and from CLIP's list of merges that is part of this
project."""
import json
import os
import shutil

from .errors import Failed, Refused

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
RESAMPLE = {"bicubic": 3, "bilinear": 2, "random": 3}
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json",
                   "added_tokens.json")
MERGES = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "goldens", "text", "merges.txt")
N_VOCABULARY = 49408
START, END = "<|startoftext|>", "<|endoftext|>"


def preprocessor_config(network, path):
    """For a network whose folder has none: OpenAI's, or what open_clip's preprocess_cfg says."""
    size, cfg = network.vision.image, network.preprocess or {}
    squash = cfg.get("resize_mode") or "shortest"
    if squash not in ("shortest", "squash"):
        raise Refused(f"{path}: preprocess_cfg.resize_mode is {squash}: CLIPImageProcessor has no such one")
    interpolation = cfg.get("interpolation") or "bicubic"
    if interpolation not in RESAMPLE:
        raise Refused(f"{path}: preprocess_cfg.interpolation is {interpolation}: not one of {', '.join(RESAMPLE)}")
    values = {}
    for key, absent in (("mean", MEAN), ("std", STD)):
        value = cfg.get(key) or absent
        values[key] = [value] * 3 if isinstance(value, (int, float)) else value
    square = {"height": size, "width": size}
    return {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True,
            "size": square if squash == "squash" else {"shortest_edge": size}, "resample": RESAMPLE[interpolation],
            "do_center_crop": squash != "squash", "crop_size": square, "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": values["mean"], "image_std": values["std"]}


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")


def _byte_letters():
    """OpenAI's letters for the 256 bytes, in the order of their ids."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def _write_vocabulary(folder, context):
    try:
        with open(MERGES, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError:
        raise Failed(f"{os.path.normpath(MERGES)}: CLIP's list of merges is not there; name a folder with a tokeniser "
                     "by --tokenizer") from None
    letters = _byte_letters()
    merges = [line for line in lines[1:] if line]
    tokens = letters + [c + "</w>" for c in letters] + [m.replace(" ", "") for m in merges] + [START, END]
    if len(tokens) != N_VOCABULARY:
        raise Failed(f"{os.path.normpath(MERGES)}: not CLIP's list of merges")
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as file:
        json.dump({token: i for i, token in enumerate(tokens)}, file, ensure_ascii=False, separators=(",", ":"))
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    write_json(os.path.join(folder, "special_tokens_map.json"), special)
    write_json(os.path.join(folder, "tokenizer_config.json"), {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": context, "do_lower_case": True, "errors": "replace",
        "add_prefix_space": False, **special})


def has_tokenizer(folder):
    files = [name for name in TOKENIZER_FILES if os.path.isfile(os.path.join(folder, name))]
    return files if "tokenizer.json" in files or {"vocab.json", "merges.txt"} <= set(files) else []


def write_tokenizer(out, network, folder, named, path):
    """named: what --tokenizer says: a folder, "none", or nothing."""
    if network.text is None or named == "none":
        return
    if named and not has_tokenizer(named):
        raise Refused(f"{named}: has no tokenizer.json, and no vocab.json with merges.txt")
    source = named or folder
    files = has_tokenizer(source)
    for name in files:
        shutil.copyfile(os.path.join(source, name), os.path.join(out, name))
    if files:
        return
    if network.text.vocabulary != N_VOCABULARY:
        raise Refused(f"{path}: its vocabulary has {network.text.vocabulary} words and CLIP's has {N_VOCABULARY}: name "
                      "the folder of its tokeniser by --tokenizer, or say --tokenizer none")
    _write_vocabulary(out, network.text.context)
