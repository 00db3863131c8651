#!/usr/bin/env python3
"""Makes tests/goldens/layers/: the hidden states that transformers and open_clip have between the blocks of the
synthetic models of make_models.py, as float32 .npy of [layers, tokens, width].

MODEL-pixels-K.npy is of noise_pixels(K), MODEL-ids-N.npy of the N-th of the model's ids, unpadded with transformers and
padded with noughts with open_clip. Layer 0 is what the first block is given, layer i what the i-th block left. From
transformers they are output_hidden_states, which must be what forward hooks see; from open_clip the hooks alone.

  python3 tests/goldens/make_layers.py          makes all; they are the same at every run of the same versions
"""
import argparse
import os
import sys
import tempfile
import warnings

import numpy as np

import make_models

# Class and mean pooling, ln_pre and none, causal texts and others, one token pooled in front of further ones.
CASES = {"hf-quick": ([0], [0, 4]), "oc-clipa": ([1], [0]), "oc-eos": ([0], [4])}


def watch(blocks):
    """The list that forward hooks fill with what goes into the first block and what comes out of each."""
    seen = []

    def given(module, positional, named):
        seen.append(positional[0] if positional else named["hidden_states"])

    def left(module, positional, out):
        seen.append(out if hasattr(out, "dim") else out[0])

    blocks[0].register_forward_pre_hook(given, with_kwargs=True)
    for block in blocks:
        block.register_forward_hook(left)
    return seen


def hf_layers(net, pixels=None, ids=None):
    tower = net.vision_model if ids is None else net.text_model
    inputs = {"pixel_values": pixels} if ids is None else {"input_ids": ids}
    seen = watch(tower.encoder.layers)
    states = tower(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == len(seen) and all((a == b).all() for a, b in zip(states, seen))
    return states


def oc_layers(net, pixels=None, ids=None):
    tower = net.visual if ids is None else getattr(net, "text", net)
    seen = watch(tower.transformer.resblocks)
    assert tower.transformer.batch_first
    net.encode_image(pixels) if ids is None else net.encode_text(ids)
    return seen


def make(model, out, pictures, texts):
    import torch
    cases = [(f"pixels-{k}", k, None) for k in pictures] + [(f"ids-{n}", None, model["ids"][n]) for n in texts]
    for name, which, ids in cases:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():  # opened anew, without the last case's hooks
            make_models.write_folder(model, make_models.file_tensors(model), folder)
            net = (make_models.HfNet if model["lib"] == "hf" else make_models.OpenClipNet)(model, folder)
            if ids is None:
                height, width = net.size
                inputs = {"pixels": torch.from_numpy(make_models.noise_pixels(which, height, width))}
            else:
                inputs = {"ids": torch.tensor([ids + [0] * (getattr(net, "context", 0) - len(ids))])}
            states = (hf_layers if model["lib"] == "hf" else oc_layers)(net.net, **inputs)
            states = torch.stack([state[0] for state in states]).numpy()
        np.save(os.path.join(out, f"{model['name']}-{name}.npy"), states)
        print(f"{model['name']}-{name}: {states.shape}, norm of the last {np.linalg.norm(states[-1]):.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "layers"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import logging, open_clip, torch, transformers
    logging.disable(logging.WARNING)  # make_models makes open_clip's networks once without weights, for their shapes
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    os.makedirs(args.out, exist_ok=True)
    versions = (f"torch {torch.__version__}, transformers {transformers.__version__}, "
                f"open_clip {open_clip.__version__}, numpy {np.__version__}")
    for model in make_models.MODELS:
        if model["name"] in CASES:
            make(model, args.out, *CASES[model["name"]])
    with open(os.path.join(args.out, "VERSIONS"), "w") as file:
        file.write(versions + "\n")
    print(versions)


if __name__ == "__main__":
    sys.exit(main())
