"""The libraries that compare.py holds clipc against, each behind the same things; imported when one is made.

    name                  library and version
    pixels(path)          float32 [3, height, width] as the library prepares a picture file
    ids(text)             token ids without padding
    embed_image(path)     float32 [dimension] of length 1
    embed_text(text)      the same of a sentence
    layers_image(path)    float32 [layers, tokens, width]: what the first block is given, and what each block leaves;
                          None where the network has no blocks in a row
    layers_text(text)     the same of a sentence; there may be pads behind its tokens
"""
from __future__ import annotations

import importlib
import os

import numpy as np

from clipc_program import Failed

OPEN_CLIP_CONFIG = "open_clip_config.json"
NEEDED = {"transformers": "torch torchvision transformers", "open_clip": "torch open_clip_torch"}


class Missing(Failed):
    """A library is not installed, or cannot open the folder."""


def import_all(library, *names):
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as trouble:
        raise Missing(f"--with {library} needs {trouble.name or trouble}: "
                      f"python3 -m pip install {NEEDED[library]}") from trouble


def unit(vector):
    vector = vector.detach().float().numpy()[0]
    return vector / np.linalg.norm(vector)


def cut(ids, end):
    """Ids up to the first end token, which stays."""
    ids = [int(i) for i in ids]
    return ids[:ids.index(end) + 1] if end in ids else ids


class Transformers:
    """CLIPModel or SiglipModel; pictures by Pillow, or by torchvision where clipc is told hf-tv."""

    def __init__(self, folder, torchvision=False):
        self.torch, transformers, self.pillow = import_all("transformers", "torch", "transformers", "PIL.Image")
        transformers.utils.logging.set_verbosity_error()
        if hasattr(transformers.utils.logging, "disable_progress_bar"):
            transformers.utils.logging.disable_progress_bar()
        self.name = f"transformers {transformers.__version__} " + ("(torchvision)" if torchvision else "(Pillow)")
        try:
            self.model = transformers.AutoModel.from_pretrained(folder, dtype=self.torch.float32).eval()
            self.processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=torchvision)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except Exception as trouble:  # whatever the library raises: it cannot open this folder
            raise Missing(f"{folder}: transformers cannot open it: {first_line(trouble)}") from trouble
        self.context = self.model.config.text_config.max_position_embeddings

    def _pixels(self, path):
        with self.pillow.open(path) as picture:
            picture.load()
            return self.processor(images=picture, return_tensors="pt")["pixel_values"].float()

    def pixels(self, path):
        return self._pixels(path)[0].numpy()

    def ids(self, text):
        return self.tokenizer(text, truncation=True, max_length=self.context)["input_ids"]

    def embed_image(self, path):
        with self.torch.inference_mode():
            return unit(features(self.model.get_image_features(pixel_values=self._pixels(path))))

    def _ids(self, text):
        padded = {"padding": "max_length"} if self.model.config.model_type.startswith("siglip") else {}
        ids = self.tokenizer(text, truncation=True, max_length=self.context, return_tensors="pt", **padded)
        return ids["input_ids"]

    def embed_text(self, text):
        with self.torch.inference_mode():
            return unit(features(self.model.get_text_features(input_ids=self._ids(text))))

    def _layers(self, tower, **inputs):
        with self.torch.inference_mode():
            return stacked(tower(**inputs, output_hidden_states=True).hidden_states)

    def layers_image(self, path):
        return self._layers(self.model.vision_model, pixel_values=self._pixels(path))

    def layers_text(self, text):
        return self._layers(self.model.text_model, input_ids=self._ids(text))


def features(out):
    """transformers 5 gives a record around what 4 gives bare."""
    return out if hasattr(out, "dim") else out.pooler_output


def stacked(states):
    return np.stack([state[0].float().numpy() for state in states])


class OpenClip:
    """A folder with open_clip_config.json, opened as open_clip's local-dir."""

    def __init__(self, folder):
        self.torch, open_clip, self.pillow = import_all("open_clip", "torch", "open_clip", "PIL.Image")
        self.name = f"open_clip {open_clip.__version__}"
        if not os.path.isfile(os.path.join(folder, OPEN_CLIP_CONFIG)):
            raise Missing(f"{folder}: has no {OPEN_CLIP_CONFIG}, which open_clip needs; --with transformers?")
        try:
            self.model, self.transform = open_clip.create_model_from_pretrained("local-dir:" + folder)
            self.tokenizer = open_clip.get_tokenizer("local-dir:" + folder)
        except Exception as trouble:
            raise Missing(f"{folder}: open_clip cannot open it: {first_line(trouble)}") from trouble
        self.model = self.model.float().eval()
        self.end = getattr(self.tokenizer, "eot_token_id", None)
        if self.end is None:  # one of Hugging Face's in open_clip's wrapping
            self.end = getattr(getattr(self.tokenizer, "tokenizer", None), "eos_token_id", None)

    def _pixels(self, path):
        with self.pillow.open(path) as picture:
            return self.transform(picture)[None]

    def pixels(self, path):
        return self._pixels(path)[0].numpy()

    def ids(self, text):
        return cut(self.tokenizer([text])[0], self.end)

    def embed_image(self, path):
        with self.torch.inference_mode():
            return unit(self.model.encode_image(self._pixels(path)))

    def embed_text(self, text):
        with self.torch.inference_mode():
            return unit(self.model.encode_text(self.tokenizer([text])))

    def _layers(self, tower, run):
        """What hooks on the blocks see while run() computes."""
        transformer = getattr(tower, "transformer", None)
        blocks = getattr(transformer, "resblocks", None)
        if not blocks:
            return None
        seen = []
        hooks = [blocks[0].register_forward_pre_hook(lambda block, given: seen.append(given[0]))]
        hooks += [block.register_forward_hook(lambda block, given, left: seen.append(left)) for block in blocks]
        try:
            with self.torch.inference_mode():
                run()
        finally:
            for hook in hooks:
                hook.remove()
        return stacked(seen if getattr(transformer, "batch_first", True) else [state.transpose(0, 1) for state in seen])

    def layers_image(self, path):
        return self._layers(self.model.visual, lambda: self.model.encode_image(self._pixels(path)))

    def layers_text(self, text):
        tower = getattr(self.model, "text", self.model)
        return self._layers(tower, lambda: self.model.encode_text(self.tokenizer([text])))


def first_line(trouble):
    return (str(trouble).strip() or type(trouble).__name__).splitlines()[0]


def choose(folder):
    """The library whose folder this is."""
    own = os.path.isfile(os.path.join(folder, OPEN_CLIP_CONFIG))
    return "open_clip" if own and not os.path.isfile(os.path.join(folder, "config.json")) else "transformers"


def make(library, folder, torchvision=False):
    return OpenClip(folder) if library == "open_clip" else Transformers(folder, torchvision)
